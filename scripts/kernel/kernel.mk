# The test kernel: docs/design/test-kernel.md.  Included by the Makefile.

.PHONY: kernel

kernel: ## the test kernel and its Debian root; built once a machine (about ten minutes), then kept in the user's cache
	@$(PYTHON) -m scripts.kernel
