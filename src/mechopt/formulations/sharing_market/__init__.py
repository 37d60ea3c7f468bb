"""Markets in which agents share data: bilateral networks, and directed sharing graphs with prices."""
