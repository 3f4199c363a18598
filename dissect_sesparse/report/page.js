"use strict";
// Draws the maps, and lets the tables be sorted and filtered. Text of the evidence only ever becomes text of a node.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const data = JSON.parse(document.getElementById("data").textContent);
  const LABELS = data.labels;
  const HOLE = LABELS.indexOf("hole");
  const TRIMMED = LABELS.indexOf("unmapped");
  // From the bottom of a column up: what is rare and matters is on top of what there is much of.
  const ORDER = ["base", "zero", "allocated", "unmapped", "invalid"].map((name) => LABELS.indexOf(name));
  const LEAST_HEIGHT = 2;

  function element(name, attributes = {}, text) {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function size(bytes) {
    const units = ["bytes", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let unit = 0;
    while (bytes >= 1023.95 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
    return `${unit ? bytes.toFixed(1).replace(/\.0$/, "") : Math.round(bytes)} ${units[unit]}`;
  }

  const address = (byte) => `0x${Math.floor(byte).toString(16)}`;

  function share(part, whole) {
    const percent = 100 * part / whole;
    if (percent > 0 && percent < 0.1) return "< 0.1 %";
    if (percent < 100 && percent > 99.9) return "> 99.9 %";
    return `${percent.toFixed(1)} %`;
  }

  // Maps

  class Strip {
    constructor(told, row) {
      this.svg = row.querySelector("svg");
      this.here = row.querySelector(".here");
      this.starts = [];
      this.cells = told.cells.map(([length, runs, ...rest]) => {
        const sizes = rest.length === 1 ? LABELS.map((_, label) => (label === rest[0] ? length : 0)) : rest;
        return { length, runs, sizes };
      });
      let start = 0;
      for (const cell of this.cells) { this.starts.push(start); start += cell.length; }
      this.end = start;
    }

    // The number of the cell that has a byte; -1 behind the end.
    at(byte) {
      if (byte < 0 || byte >= this.end) return -1;
      let low = 0, high = this.starts.length - 1;
      while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (this.starts[middle] <= byte) low = middle; else high = middle - 1;
      }
      return low;
    }

    draw(from, to) {
      const width = Math.max(1, Math.round(this.svg.clientWidth)), height = this.svg.clientHeight;
      const columns = LABELS.map(() => new Float64Array(width));
      const scale = width / (to - from);
      for (let n = Math.max(0, this.at(from)); n < this.cells.length && this.starts[n] < to; n += 1) {
        const cell = this.cells[n];
        const left = Math.max(0, (this.starts[n] - from) * scale);
        const right = Math.min(width, (this.starts[n] + cell.length - from) * scale);
        for (let x = Math.floor(left); x < right; x += 1) {
          const part = (Math.min(right, x + 1) - Math.max(left, x)) / (cell.length * scale);
          cell.sizes.forEach((bytes, label) => { columns[label][x] += bytes * part; });
        }
      }
      const bytesAColumn = (to - from) / width;
      this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      this.svg.replaceChildren(...paths(columns, bytesAColumn, width, height));
    }
  }

  // One path for each label: columns of the same height beside each other are one rectangle.
  function paths(columns, bytesAColumn, width, height) {
    const heights = ORDER.map(() => new Float64Array(width));
    const tops = ORDER.map(() => new Float64Array(width));
    for (let x = 0; x < width; x += 1) {
      const wanted = ORDER.map((label) => {
        const part = columns[label][x] / bytesAColumn;
        return part > 1e-12 ? Math.max(LEAST_HEIGHT, part * height) : 0;
      });
      // What is made visible takes its room from the largest.
      const over = wanted.reduce((a, b) => a + b, 0) - height;
      if (over > 0) wanted[wanted.indexOf(Math.max(...wanted))] -= over;
      let top = height;
      wanted.forEach((part, layer) => {
        top -= part;
        heights[layer][x] = part;
        tops[layer][x] = top;
      });
    }
    return ORDER.map((label, layer) => {
      let path = "";
      for (let x = 0; x < width;) {
        const tall = heights[layer][x], top = tops[layer][x];
        let end = x + 1;
        while (end < width && Math.abs(heights[layer][end] - tall) < 0.05 && Math.abs(tops[layer][end] - top) < 0.05) end += 1;
        if (tall) path += `M${x} ${top.toFixed(1)}h${end - x}v${tall.toFixed(1)}h${x - end}z`;
        x = end;
      }
      return element("path", { d: path, class: `state-${LABELS[label]}` });
    });
  }

  class DiskMap {
    constructor(figure, told) {
      this.size = told.size;
      this.plot = figure.querySelector(".plot");
      this.where = figure.querySelector(".where");
      this.axis = figure.querySelector(".axis svg");
      this.strips = told.strips.map((strip, n) => new Strip(strip, figure.querySelector(`.strip[data-strip="${n}"]`)));
      this.from = 0;
      this.to = this.size;
      this.marked = 0;
      this.buttons = new Map([...figure.querySelectorAll("button[data-do]")].map((button) => [button.dataset.do, button]));
      for (const [name, button] of this.buttons) button.addEventListener("click", () => this.do(name));
      figure.querySelector(".controls").hidden = false;
      this.trimmed = this.trimmedRanges();
      this.plot.addEventListener("keydown", (event) => this.key(event));
      this.plot.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
      this.listenToPointer();
      new ResizeObserver(() => this.draw()).observe(this.plot);
      this.mark(this.trimmed.length ? this.trimmed[0][0] : 0);
    }

    // Where any link has trimmed bytes, as cells know it: start and end.
    trimmedRanges() {
      const ranges = [];
      for (const strip of this.strips) {
        strip.cells.forEach((cell, n) => { if (cell.sizes[TRIMMED]) ranges.push([strip.starts[n], strip.starts[n] + cell.length]); });
      }
      ranges.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      return ranges.filter((range, n) => !n || range[0] !== ranges[n - 1][0]);
    }

    show(from, to) {
      const least = Math.min(this.size, 16 * 4096);
      let span = Math.min(this.size, Math.max(least, to - from));
      if (span > this.size * 0.999) span = this.size;
      this.from = Math.max(0, Math.min(this.size - span, (from + to - span) / 2));
      this.to = this.from + span;
      this.draw();
    }

    zoom(factor, byte = this.marked) {
      const fixed = byte < this.from || byte > this.to ? (this.from + this.to) / 2 : byte;
      const least = Math.min(this.size, 16 * 4096);
      const span = Math.min(this.size, Math.max(least, (this.to - this.from) * factor));
      const part = (fixed - this.from) / (this.to - this.from);
      const from = Math.max(0, Math.min(this.size - span, fixed - part * span));
      this.show(from, from + span);
    }

    pan(part) {
      const span = this.to - this.from;
      const from = Math.max(0, Math.min(this.size - span, this.from + part * span));
      this.show(from, from + span);
    }

    // A range in the middle, with something of what is around it.
    goTo(start, length) {
      const span = Math.max(length * 8, 64 * 4096);
      this.show(start + length / 2 - span / 2, start + length / 2 + span / 2);
      this.mark(start);
    }

    do(name) {
      if (name === "in") this.zoom(1 / 2);
      if (name === "out") this.zoom(2);
      if (name === "all") this.show(0, this.size);
      if (name === "left") this.pan(-0.5);
      if (name === "right") this.pan(0.5);
      const found = name === "next" ? this.trimmed.find(([start]) => start > this.marked)
        : name === "previous" ? this.trimmed.findLast(([start]) => start < this.marked) : undefined;
      if (found) this.goTo(found[0], found[1] - found[0]);
      else if (name === "next" || name === "previous") this.where.textContent = `No trimmed range ${name === "next" ? "behind" : "before"} ${address(this.marked)}.`;
    }

    key(event) {
      if (event.ctrlKey || event.altKey || event.metaKey) return;
      const step = (this.to - this.from) / 100;
      const keys = {
        "+": () => this.do("in"), "=": () => this.do("in"), "-": () => this.do("out"), 0: () => this.do("all"),
        ArrowLeft: () => (event.shiftKey ? this.pan(-0.1) : this.mark(this.marked - step, true)),
        ArrowRight: () => (event.shiftKey ? this.pan(0.1) : this.mark(this.marked + step, true)),
        Home: () => this.mark(0, true), End: () => this.mark(this.size - 1, true),
        n: () => this.do("next"), p: () => this.do("previous"),
      };
      const found = keys[event.key.length === 1 ? event.key.toLowerCase() : event.key];
      if (!found) return;
      event.preventDefault();
      found();
    }

    wheel(event) {
      // Without focus the wheel scrolls the page.
      if (document.activeElement !== this.plot && !event.ctrlKey) return;
      event.preventDefault();
      this.zoom(event.deltaY > 0 ? 1.25 : 0.8, this.byteAt(event.clientX));
    }

    byteAt(x) {
      const box = this.strips[0].svg.getBoundingClientRect();
      return this.from + Math.max(0, Math.min(1, (x - box.left) / box.width)) * (this.to - this.from);
    }

    listenToPointer() {
      let dragged = null;
      this.plot.addEventListener("pointerdown", (event) => {
        dragged = { x: event.clientX, from: this.from, to: this.to };
        this.plot.setPointerCapture(event.pointerId);
      });
      this.plot.addEventListener("pointerup", () => { dragged = null; });
      this.plot.addEventListener("pointercancel", () => { dragged = null; });
      this.plot.addEventListener("pointermove", (event) => {
        if (dragged && Math.abs(event.clientX - dragged.x) > 3) {
          const width = this.strips[0].svg.getBoundingClientRect().width;
          const span = dragged.to - dragged.from;
          const from = Math.max(0, Math.min(this.size - span, dragged.from - (event.clientX - dragged.x) / width * span));
          this.show(from, from + span);
        }
        this.mark(this.byteAt(event.clientX));
      });
      this.plot.addEventListener("dblclick", (event) => this.zoom(1 / 2, this.byteAt(event.clientX)));
    }

    // Says what is at a byte; follows it where it is not in sight.
    mark(byte, follow = false) {
      this.marked = Math.max(0, Math.min(this.size - 1, byte));
      if (follow && (this.marked < this.from || this.marked >= this.to)) {
        const span = this.to - this.from;
        const from = Math.max(0, Math.min(this.size - span, this.marked - span / 2));
        this.show(from, from + span);
      }
      this.strips.forEach((strip, n) => {
        const told = describe(strip, this.marked);
        strip.here.textContent = told.states;
        if (n === 0) this.where.textContent = `${address(this.marked)}: ${told.range} ${told.states}`;
      });
      this.drawMarker();
    }

    drawMarker() {
      for (const { svg } of this.strips) {
        svg.querySelector(".marker")?.remove();
        if (this.marked < this.from || this.marked >= this.to) continue;
        const width = svg.viewBox.baseVal.width;
        const x = (this.marked - this.from) / (this.to - this.from) * width;
        svg.append(element("line", { x1: x, x2: x, y1: 0, y2: svg.viewBox.baseVal.height, class: "marker" }));
      }
    }

    draw() {
      for (const strip of this.strips) strip.draw(this.from, this.to);
      this.drawAxis();
      this.drawMarker();
      const all = this.to - this.from >= this.size;
      this.plot.dataset.from = Math.floor(this.from);
      this.plot.dataset.to = Math.ceil(this.to);
      for (const name of ["out", "all", "left", "right"]) if (this.buttons.has(name)) this.buttons.get(name).disabled = all;
      for (const name of ["previous", "next"]) this.buttons.get(name).disabled = !this.trimmed.length;
    }

    drawAxis() {
      const width = Math.max(1, this.axis.clientWidth), span = this.to - this.from;
      let step = 512;
      while (span / step > Math.max(2, width / 130)) step *= 2;
      this.axis.setAttribute("viewBox", `0 0 ${width} 26`);
      const made = [];
      for (let tick = Math.ceil(this.from / step) * step; tick <= this.to; tick += step) {
        const x = (tick - this.from) / span * width;
        const anchor = x < 30 ? "start" : x > width - 30 ? "end" : "middle";
        made.push(element("path", { d: `M${x.toFixed(1)} 0v6` }));
        made.push(element("text", { x: x.toFixed(1), y: 20, "text-anchor": anchor }, exact(tick)));
      }
      this.axis.replaceChildren(...made);
    }
  }

  // A multiple of a power of two, without rounding: 64 MiB, 65540 KiB.
  function exact(bytes) {
    const units = ["", " KiB", " MiB", " GiB", " TiB"];
    let unit = 0;
    while (bytes && bytes % 1024 === 0 && unit < units.length - 1) { bytes /= 1024; unit += 1; }
    return `${bytes}${units[unit]}`;
  }

  function describe(strip, byte) {
    const n = strip.at(byte);
    if (n < 0) return { range: "", states: "behind its end" };
    const cell = strip.cells[n], start = strip.starts[n];
    const parts = cell.sizes.map((bytes, label) => [bytes, label]).filter(([bytes]) => bytes).sort((a, b) => b[0] - a[0]);
    const states = parts.map(([bytes, label]) => (parts.length === 1 ? `${LABELS[label]}, ${size(cell.length)}` : `${LABELS[label]} ${share(bytes, cell.length)}`)).join(", ");
    const runs = cell.runs === 1 ? "1 run" : `${cell.runs.toLocaleString("en")} runs`;
    return { range: `in ${address(start)} to ${address(start + cell.length)}, ${size(cell.length)}, ${runs}:`, states };
  }

  const maps = new Map();
  for (const figure of document.querySelectorAll("figure.map")) {
    maps.set(figure.id, new DiskMap(figure, data.disks[Number(figure.dataset.map)]));
  }
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-at]");
    const map = link && maps.get(link.hash.slice(1));
    if (!map) return;
    event.preventDefault();
    map.plot.closest("figure").scrollIntoView();
    map.goTo(Number(link.dataset.at), Number(link.dataset.size));
    map.plot.focus({ preventScroll: true });
  });

  // Tables

  const valueOf = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.v === undefined ? cell.textContent : Number(cell.dataset.v);
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a) < String(b) ? -1 : String(a) > String(b) ? 1 : 0);

  class Table {
    constructor(table) {
      this.table = table;
      this.body = table.tBodies[0];
      this.rows = [...this.body.rows];
      this.texts = this.rows.map((row) => row.textContent.toLowerCase());
      this.heads = [...table.tHead.rows[0].cells];
      this.heads.forEach((head, column) => this.makeSortable(head, column));
      this.choices = [];
      this.makeTools();
      this.filter();
    }

    makeSortable(head, column) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => this.sort(column));
      head.append(button);
      head.setAttribute("aria-sort", "none");
    }

    sort(column) {
      const down = this.heads[column].getAttribute("aria-sort") === "ascending";
      for (const head of this.heads) head.setAttribute("aria-sort", "none");
      this.heads[column].setAttribute("aria-sort", down ? "descending" : "ascending");
      const keyed = [...this.body.rows].map((row) => [valueOf(row, column), row]);
      keyed.sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])));
      this.body.append(...keyed.map(([, row]) => row));
    }

    makeTools() {
      const tools = document.createElement("div");
      tools.className = "tools";
      this.search = document.createElement("input");
      this.search.type = "search";
      this.search.autocomplete = "off";
      this.search.spellcheck = false;
      this.search.id = `${this.table.id}-search`;
      this.search.setAttribute("aria-controls", this.table.id);
      this.search.addEventListener("input", () => this.filter());
      tools.append(labelled("Only rows with", this.search));
      this.heads.forEach((head, column) => {
        if (head.dataset.filter === undefined) return;
        const values = [...new Set(this.rows.map((row) => row.cells[column].textContent))].sort();
        if (values.length < 2 || values.length > 100) return;
        const choice = document.createElement("select");
        choice.id = `${this.table.id}-choice-${column}`;
        choice.setAttribute("aria-controls", this.table.id);
        choice.append(new Option("all", ""), ...values.map((value) => new Option(value, `=${value}`)));
        choice.addEventListener("change", () => this.filter());
        this.choices.push([column, choice]);
        tools.append(labelled(head.dataset.filter, choice));
      });
      this.told = document.createElement("output");
      this.told.setAttribute("aria-live", "polite");
      tools.append(this.told);
      this.table.closest(".scroll").before(tools);
    }

    filter() {
      const words = this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let count = 0;
      this.rows.forEach((row, n) => {
        const kept = words.every((word) => this.texts[n].includes(word))
          && this.choices.every(([column, choice]) => !choice.value || `=${row.cells[column].textContent}` === choice.value);
        row.hidden = !kept;
        count += kept;
      });
      this.told.textContent = `${count.toLocaleString("en")} of ${this.rows.length.toLocaleString("en")} rows`;
    }
  }

  function labelled(text, control) {
    const both = document.createElement("div"), label = document.createElement("label");
    label.textContent = text;
    label.htmlFor = control.id;
    both.append(label, control);
    return both;
  }

  for (const table of document.querySelectorAll("table.live")) new Table(table);
  document.getElementById("no-script").remove();

  // On paper all is open.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => { for (const details of opened) details.open = false; });
})();
