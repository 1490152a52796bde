/* What a client of the control socket must know; socket.h says the messages. Needs nothing else of the node. */
#ifndef LOAM_NODE_PROTOCOL_H
#define LOAM_NODE_PROTOCOL_H

#define LOAM_PROTOCOL 1 /* number in hello; a mismatch names both and the remedy */
#define CONTROL_LINE_MAX (4u << 20) /* bytes of one message, newline included */

#endif
