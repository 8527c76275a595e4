# The guests of the system tier: docs/design/ci.md.  Included by the Makefile.

.PHONY: guests
guests: kernel ## the Debian systems that tests boot: trixie, bookworm, forky; made once a machine (four minutes), then cached
	@$(PYTHON) -m scripts.guests
