"""Runs scenarios of one compiled case in a process of its own: worker.py LIBRARY ARTIFACT CASE_DIR auto|text SCENARIO...

Prints one JSON line for each scenario when it starts ({"start": name}) and when it is done ({"scenario": name, "outputs":
{kind of golden: [[name, largest error, rms error, standard deviation of the golden]]}} or {"scenario": name, "refused": why}).
"""
import json
import sys

import numpy as np

from cases import SLIDING_WINDOW, STATE_NAMES, Case, batch_size, ragged, sequence_length, valid_rows
from library import Failure, Graph, Library, Model, Session

SLOTS = 4
# What a session gives as logits, in the order of preference.
ROW_OUTPUTS = ("logits", "last_hidden_state", "token_embeddings", "hidden_states", "sentence_embedding", "pooler_output")


class Comparison:
    """Values and goldens by output, over all steps."""

    def __init__(self, kinds):
        self.pairs = {kind: {} for kind in kinds}

    def add(self, kind, name, found, golden):
        if found.shape != golden.shape:
            raise Failure(f"output '{name}' has shape {list(found.shape)}, expected {list(golden.shape)}")
        both = self.pairs[kind].setdefault(name, ([], []))
        both[0].append(np.asarray(found, np.float64).reshape(-1))
        both[1].append(np.asarray(golden, np.float64).reshape(-1))

    def summary(self):
        return {kind: self.rows(kind) for kind in self.pairs}

    def rows(self, kind):
        rows = []
        for name, (found, golden) in self.pairs[kind].items():
            found, golden = np.concatenate(found), np.concatenate(golden)
            if golden.size == 0:
                continue
            # What is infinite or NaN in one must be so in the other.
            same = (found == golden) | (np.isnan(found) & np.isnan(golden))
            error = np.where(same, 0, np.abs(found - golden))
            error = np.where(np.isnan(error), np.inf, error)
            rows.append([name, float(error.max()), float(np.sqrt(np.mean(error**2))), float(golden[np.isfinite(golden)].std())])
        return rows


def run_tokens(model, case, scenario):
    """A token program: padding left out, each row of the batch a slot."""
    present = {name for step in case.steps(scenario) for name in case.wanted(scenario, step)}
    output = next((name for name in ROW_OUTPUTS if name in present), None)
    kinds = [kind for kind, _ in case.goldens()]
    steps = {kind: ragged(case, scenario, output, kind) for kind in kinds}
    if steps[""] is None or output is None:
        raise Failure(f"unsupported: no token ids, or none of the goldens {sorted(present)} are rows")
    session, comparison = Session(model, SLOTS), Comparison(kinds)
    most = min(model.info.max_step_tokens, model.info.max_logit_rows)
    for at_step, step in enumerate(steps[""]):
        found = {}
        is_whole = len(step.tokens) <= model.info.max_step_tokens and len(step.rows) <= model.info.max_logit_rows
        chunk = len(step.tokens) if is_whole else most
        for at in range(0, len(step.tokens), chunk):
            rows = [row - at for row in step.rows if at <= row < at + chunk]
            for row, logits in zip(rows, session.step(step.tokens[at : at + chunk], step.types[at : at + chunk], rows)):
                found[at + row] = logits
        for kind in kinds:
            golden = steps[kind][at_step]
            if golden.rows:
                comparison.add(kind, output, np.array([found[row] for row in golden.rows]), golden.golden)
    session.close()
    return comparison


def state_output(port, graph):
    """Name of the output that a state input is fed from; None for an input that is no state."""
    if port.is_state:
        return graph.outputs[port.partner].name
    names = {output.name for output in graph.outputs}
    for old, new in STATE_NAMES:
        if port.name.startswith(old) and port.name.replace(old, new, 1) in names:
            return port.name.replace(old, new, 1)
    return None


def first_state(port, output, case, batch):
    """The value of a state before the first step: nothing yet, or zeros of a fixed shape."""
    if not port.dims:
        return np.array(SLIDING_WINDOW, port.type)
    finals = case.wanted("b1_p7", "final")
    like = [value for value in finals.values() if value.ndim == len(port.dims)]  # caches of other layers have the same heads
    final = finals.get(output, like[0] if like else None)
    dims, described = list(port.dims), described_dims(case, port.name)
    for axis, dim in enumerate(dims):
        if dim < 0 and "sliding" in described[axis]:
            dims[axis] = finals[output].shape[axis] if output in finals else ring_capacity(case)
        elif axis == port.grow_axis:
            dims[axis] = 0
        elif dim >= 0:
            continue
        elif axis == 0:
            dims[axis] = batch
        elif "past" in described[axis] or "length" in described[axis] or final is None or final.ndim != len(dims):
            dims[axis] = 0
        else:
            dims[axis] = final.shape[axis]
    return np.zeros(dims, port.type)


def ring_capacity(case):
    """Positions of a ring-buffer cache: as its maker fed it, or as genai_config.json says."""
    window = json.loads((case.folder / "genai_config.json").read_text())["model"]["decoder"].get("sliding_window", {})
    return case.description.get("state_capacity") or window.get("window_size", SLIDING_WINDOW)


def described_dims(case, name):
    """Symbolic dimensions of an input in case.json: `name:TYPE[a,b,c]`."""
    for text in case.description["inputs"]:
        if text.rsplit(":", 1)[0] == name:
            return text[text.rindex("[") + 1 : -1].split(",")
    return [""] * 8


def run_tensors(model, case, scenario):
    """A tensor program: the recorded inputs exactly as they are, states fed from step to step."""
    kinds = [kind for kind, _ in case.goldens()]
    graph, comparison, state, past = Graph(model), Comparison(kinds), {}, 0
    states = {port.name: state_output(port, graph) for port in graph.inputs}
    for step in case.steps(scenario):
        recorded = case.feed(scenario, step)
        batch = batch_size(recorded)
        feed = {}
        for port in graph.inputs:
            if port.name in recorded:
                feed[port.name] = recorded[port.name]
            elif port.name in state:
                feed[port.name] = state[port.name]
            elif states[port.name]:
                feed[port.name] = first_state(port, states[port.name], case, batch)
        found = graph.run(feed)
        # Caches of cross attention are made at the first step and stay: merged decoders give empty ones later.
        kept = {name for name in state if ".encoder." in name}
        state.update({name: found[output] for name, output in states.items() if output and name not in kept})
        for kind in kinds:
            for name, golden in case.wanted(scenario, step, kind).items():
                if name not in found:
                    raise Failure(f"there is no output '{name}'")
                rows = valid_rows(recorded, past, golden)
                if found[name].shape != golden.shape:
                    raise Failure(f"output '{name}' has shape {list(found[name].shape)}, expected {list(golden.shape)}")
                comparison.add(kind, name, found[name][rows], golden[rows])
        past += sequence_length(recorded)
    for kind in kinds:
        for name, golden in case.wanted(scenario, "final", kind).items():
            comparison.add(kind, name, found[name], golden)
    graph.close()
    return comparison


def say(**what):
    print(json.dumps(what), flush=True)


def main():
    library, artifact, folder, way, scenarios = *sys.argv[1:5], sys.argv[5:]
    case = Case(folder)
    say(start="")
    try:
        model = Model(Library(library), artifact)
    except Failure as failure:
        for scenario in scenarios:
            say(scenario=scenario, refused=str(failure))
        return
    run = run_tensors if model.info.has_graph and way == "auto" else run_tokens
    for scenario in scenarios:
        say(start=scenario)
        try:
            say(scenario=scenario, kind=run.__name__[4:], outputs=run(model, case, scenario).summary())
        except Failure as failure:
            say(scenario=scenario, refused=str(failure))


if __name__ == "__main__":
    main()
