"""Whether a worker can have read a call that a kept connection ended on. Asks the kernel.

A worker closes a connection that was idle (FIN) while the call is on its way: its kernel then
refuses the call (RST), and never acknowledged a byte of it. So nobody has read it, and it may be
made again. In all other cases nobody knows: a worker that read the call and died closes in the
same way, but its kernel had taken the call by then.
"""

import socket
import struct
import sys

WITHIN = 1.0  # seconds that the kernel of the worker has to refuse the call
FIRST_LOOK, LAST_LOOK = 0.002, 0.1  # seconds between two looks: each twice the one before

_IS_KNOWN = sys.platform == "linux"
_CLOSED = 7  # TCP_CLOSE: behind a FIN, it was refused
_SYN = 1  # byte that counts as acknowledged beside what was sent
_ACKNOWLEDGED = struct.Struct("=Q")
_AT = 120  # tcpi_bytes_acked within struct tcp_info


def was_refused(sock: socket.socket, sent_before: int) -> bool | None:
    """Of a connection whose end we have read, as it is now; None while that is open.

    `sent_before` are the bytes that went out on it before the call.
    """
    if not _IS_KNOWN:
        return False
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except OSError:
        return False
    if len(info) < _AT + _ACKNOWLEDGED.size:
        return False
    (acknowledged,) = _ACKNOWLEDGED.unpack_from(info, _AT)
    if acknowledged > sent_before + _SYN:
        return False
    return True if info[0] == _CLOSED else None
