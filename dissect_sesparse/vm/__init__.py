"""The texts of a VM: descriptor, snapshot list, configuration. Text in, values out."""
