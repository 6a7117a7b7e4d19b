"""What the gateway says of itself to machines: JSON Schemas, OpenAPI and AsyncAPI, made from typed definitions."""
