"""The index types of vector fields, one module each, with its object `TYPE`."""
