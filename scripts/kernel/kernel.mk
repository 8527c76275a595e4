# The test kernel: docs/design/test-kernel.md.  Included by the Makefile.

.PHONY: kernel

kernel: ## the test kernel and its Debian root; built once a machine (about ten minutes), then kept in the user's cache
	@$(PYTHON) -m scripts.kernel

.PHONY: check-modules
check-modules: kernel ## our kernel modules under checkpatch, sparse, kernel-doc and the compiler's W=1
	@$(PYTHON) -m scripts.kernel.checks

.PHONY: bench-kernel
bench-kernel: $(STAMP) kernel ## requests of a real kernel, served by ours and by tlshd in the same boot (five minutes)
	@$(BIN)/python -m benchmarks.kernel
