"""Top floor: what people do with mechanisms."""
