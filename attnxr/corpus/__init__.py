"""Many texts run through a model: a store of what is kept of them, and the atlas of heads that they make."""
