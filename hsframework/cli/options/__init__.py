"""Options that several commands share, and the code that carries them out."""
