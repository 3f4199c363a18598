"""What happened to a disk, in time: events from all that the chain holds, in order, in the formats of other tools."""
