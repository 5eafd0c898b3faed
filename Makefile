# Each target installs what it misses (Debian packages only when root calls it) and works as an ordinary user.
# tools/workbench tells how.
.PHONY: demo test lint bench

demo:
	@tools/workbench demo tools/demo

# ARGS go to pytest: make test ARGS='tests/unit -k config'
test:
	@tools/workbench test tools/check $(ARGS)

lint:
	@tools/workbench lint tools/lint

# ARGS go to the benchmark: make bench ARGS='--only run --rounds 30'
bench:
	@tools/workbench bench python3 -m tests.bench $(ARGS)
