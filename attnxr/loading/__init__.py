"""Models by name: from the hub, from folders, from GGUF files; and which families there are."""
