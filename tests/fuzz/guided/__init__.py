"""Coverage-guided fuzzing (atheris, libFuzzer): targets, corpora as text, and the driver of one target."""
