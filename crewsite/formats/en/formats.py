"""How the admin writes times: to the second, and with their zone, which is the server's.

Live pages write them in the zone of who looks; two that look alike must not mean two moments.
"""

DATETIME_FORMAT = "Y-m-d H:i:s T"
