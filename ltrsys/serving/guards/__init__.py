"""What a server lets in: bounds on whatever clients can make large, many or slow."""
