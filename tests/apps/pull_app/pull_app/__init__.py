"""An app that talks to the grid itself: it pushes messages and pulls replies as they come."""
