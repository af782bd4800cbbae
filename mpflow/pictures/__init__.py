"""A flow as a picture: text, Mermaid, Graphviz's language, and through Graphviz whatever that can draw."""
