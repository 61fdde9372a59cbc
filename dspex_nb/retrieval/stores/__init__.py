"""One file a store: each imports its client when an index is made, and holds what is special to it, nothing more."""
