"""Query nodes in other processes: messages, calls, the node's side, and the set of nodes that the head reads."""
