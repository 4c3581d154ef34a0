"""The nameserver that answers the proxy: its rules, and the forwarder before another one."""
