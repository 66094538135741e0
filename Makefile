# The commands of this project; .ci/run and people use the same ones.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Test files are independent of each other, so two can run at a time. They keep the order of `tests/conftest.py`: the
# longest come first, since one core would wait for them at the end.
TWO_AT_A_TIME := -n 2 --dist loadfile --no-loadscope-reorder
# Tests of what is written to logs, and of what becomes of it.
WRITES := $(addprefix tests/compat/test_,$(addsuffix .py,compaction consistency deletes exported_snapshots imports partial_upserts restart snapshots upserts))
# Tests that need no toolchain, browser or framework.
HERE := not clients and not web and not ecosystem
# Those of them that `make test` and `make test-cluster-quick` run.
USUAL := not nightly and not cluster and $(HERE)

.PHONY: setup demo demo-cluster demo-cluster-ray serve docs test test-cluster-quick test-cluster test-nodes test-postgresql test-clients test-web test-ecosystem check nightly delays bench bench-data bench-load bench-peers bench-scale bench-cluster bench-steady format clean

setup: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@

demo: setup
	$(BIN)/python scripts/demo.py

demo-cluster: setup
	PYTHONPATH=tests:tests/cluster $(BIN)/python scripts/demo_cluster.py

demo-cluster-ray: setup
	$(BIN)/python -m pip install --quiet --editable ".[cluster]"
	PYTHONPATH=tests:tests/cluster:tests/front $(BIN)/python scripts/demo_cluster_ray.py

serve: setup
	$(BIN)/milvine serve

test: setup
	$(BIN)/python -m pytest -m "$(USUAL)" $(TWO_AT_A_TIME) --ignore=tests/cluster

# Those of more than one process, store or catalog that take seconds each; test-cluster has the rest.
test-cluster-quick: setup
	$(BIN)/python -m pytest -m "$(USUAL)" $(TWO_AT_A_TIME) tests/cluster

test-cluster: setup
	$(BIN)/python -m pip install --quiet --editable ".[cluster]"
	MILVINE_NODE_ROUNDS=20 MILVINE_S3_SERVER=versitygw $(BIN)/python -m pytest -m "cluster or not nightly" --timeout 900 tests/cluster
	MILVINE_TEST_NODES=2 MILVINE_TEST_REPLICAS=2 $(BIN)/python -m pytest tests/model/test_random_model.py
	MILVINE_TEST_STORE=versitygw $(BIN)/python -m pytest tests/storage tests/crash tests/load_release tests/compat/test_compaction.py
	MILVINE_TEST_LOG=object $(BIN)/python -m pytest tests/crash tests/load_release tests/model/test_random_model.py tests/cli/test_backup.py $(WRITES)

test-nodes: setup
	MILVINE_TEST_NODES=2 MILVINE_TEST_REPLICAS=2 $(BIN)/python -m pytest -m "$(USUAL)" --timeout 600 $(TWO_AT_A_TIME)

test-postgresql: setup
	MILVINE_TEST_CATALOG=postgresql $(BIN)/python -m pytest -m "$(USUAL)" --timeout 600 $(TWO_AT_A_TIME)

test-clients: setup
	$(BIN)/python -m pytest -m clients $(TWO_AT_A_TIME) tests/clients
	@cat build/clients/table.md

test-web: setup
	$(BIN)/python -m pytest -m web tests/web

test-ecosystem: setup
	$(BIN)/python -m pytest -m ecosystem $(TWO_AT_A_TIME) tests/ecosystem

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/layout

nightly: setup
	MILVINE_CRASH_ROUNDS=60 MILVINE_MODEL_STEPS=20000 MILVINE_POWER_LOSS_SCENARIOS=20 \
		MILVINE_ROLE_REQUESTS=10000 MILVINE_READ_CASES=5000 MILVINE_TRAFFIC_SECONDS=120 \
		MILVINE_ENGINE_TRAFFIC_SECONDS=300 MILVINE_FILTER_EXAMPLES=2000 \
		$(BIN)/python -m pytest -m "$(HERE)" --timeout 3600 $(TWO_AT_A_TIME)
	$(MAKE) test-nodes
	$(MAKE) test-postgresql

docs: setup
	$(BIN)/python scripts/compatibility.py
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	$(BIN)/mkdocs build --quiet

delays: setup
	for part in 0 1 2 3 4 5 6 7; do \
		MILVINE_DELAYS=$$part/8 PYTHONPATH=$(CURDIR)/scripts/delays \
			$(BIN)/python -m pytest -m "$(USUAL)" --timeout 600 $(TWO_AT_A_TIME) || exit 1; \
	done

bench: setup
	$(BIN)/python benches/server.py
	$(BIN)/python benches/recall.py --queries 300
	$(BIN)/python benches/deletes.py
	$(BIN)/python benches/groups.py
	$(BIN)/python benches/texts.py

bench-data: setup
	$(BIN)/python benches/data.py

bench-load: setup
	$(BIN)/python benches/load.py

# PEERS="--rows 100000 --minutes 30" and SCALE="--rows 10000 100000 1000000" change the sizes.
bench-peers: setup
	$(BIN)/python benches/peers.py $(PEERS)

bench-scale: setup
	$(BIN)/python benches/scale.py $(SCALE)

# CLUSTER="--nodes 100 --segments 20000" changes the sizes.
bench-cluster: setup
	$(BIN)/python benches/cluster_sim.py $(CLUSTER)

# STEADY="--minutes 1 --mixed-minutes 2" is shorter than the usual twenty minutes.
bench-steady: setup
	$(BIN)/python benches/steady.py $(STEADY)

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build site *.egg-info .mypy_cache .ruff_cache .import_linter_cache
