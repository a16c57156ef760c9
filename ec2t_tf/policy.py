"""Which layer gets which treatment, and why."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any


class Treatment(str, enum.Enum):
    """What happens to a layer's weights.

    TERNARY: the method's three values. PRUNE: entropy-constrained pruning, zeros by assignment,
    while the other weights keep their (int8) values. INT8: as tfmot trains them. FLOAT: left alone.
    """

    TERNARY = "ternary"
    PRUNE = "prune"
    INT8 = "int8"
    FLOAT = "float"


@dataclasses.dataclass(frozen=True)
class Rule:
    """A treatment for the layers that fulfil all conditions given; without any, for every layer.

    Attributes:
      treatment: "ternary", "prune", "int8" or "float".
      name: regular expression that the whole layer name must match.
      kind: class name of the layer, e.g. "Dense", as in the user's model.
      predicate: function of the layer of the user's model; not in JSON.
    """

    treatment: Treatment
    name: str | None = None
    kind: str | None = None
    predicate: Callable[[Any], bool] | None = None

    def __post_init__(self) -> None:
        treatments = [treatment.value for treatment in Treatment]
        if self.treatment not in treatments:
            raise ValueError(
                f"A rule's treatment must be one of {treatments}. "
                f"Received: treatment={self.treatment!r}."
            )
        object.__setattr__(self, "treatment", Treatment(self.treatment))
        kind: Any = self.kind
        if isinstance(kind, type):
            object.__setattr__(self, "kind", kind.__name__)
        try:
            re.compile(self.name or "")
        except re.error as error:
            raise ValueError(
                f"A rule's name must be a regular expression. Received: name={self.name!r}, "
                f"which is none: {error}."
            ) from error

    def matches(self, layer: Any, origin: Any) -> bool:
        """Whether the rule is about `layer`, which computes (a part of) the user's `origin`."""
        both = (layer, origin)
        if self.name is not None and not any(re.fullmatch(self.name, x.name) for x in both):
            return False
        if self.kind is not None and not any(type(x).__name__ == self.kind for x in both):
            return False
        return self.predicate is None or bool(self.predicate(origin))

    def __str__(self) -> str:
        conditions = [f"{key} {value!r}" for key, value in self._conditions().items()]
        return f"{self.treatment.value} for {' and '.join(conditions) or 'every layer'}"

    def _conditions(self) -> dict[str, Any]:
        fields = {"name": self.name, "kind": self.kind, "predicate": self.predicate}
        return {key: value for key, value in fields.items() if value is not None}


@dataclasses.dataclass(frozen=True)
class Decision:
    """The treatment of one layer with weights.

    `refused` says that the layer could not be given what the defaults or a rule wanted for it,
    `by_rule` that a rule decided; `folded_into` names the layer whose operator computes it too;
    `only` the one of its kernels that is meant, where the others stay int8 (of recurrent layers).
    """

    layer: str
    kind: str
    treatment: Treatment
    reason: str
    refused: bool = False
    by_rule: bool = False
    folded_into: str = ""
    only: str = ""


@dataclasses.dataclass(frozen=True)
class ApplyReport:
    """What `apply` did with each layer: printed once, and kept as `model.ec2t_report`.

    Attributes:
      decisions: one for each layer with weights, and for each that had to be left out.
      rewritten: what was replaced by equivalent layers of one operator each.
      unused_rules: rules of the policy that decided about no layer.
    """

    decisions: tuple[Decision, ...]
    rewritten: tuple[str, ...] = ()
    unused_rules: tuple[str, ...] = ()

    def of(self, treatment: Treatment | str) -> list[str]:
        """Names of the layers with this treatment."""
        return [d.layer for d in self.decisions if d.treatment == treatment]

    def get_config(self) -> dict:
        """Plain data, for JSON."""
        return {
            "decisions": [
                {**dataclasses.asdict(d), "treatment": d.treatment.value} for d in self.decisions
            ],
            "rewritten": list(self.rewritten),
            "unused_rules": list(self.unused_rules),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ApplyReport:
        """The inverse of `get_config`."""
        decisions = [{**d, "treatment": Treatment(d["treatment"])} for d in config["decisions"]]
        return cls(
            tuple(Decision(**d) for d in decisions),
            tuple(config["rewritten"]),
            tuple(config["unused_rules"]),
        )

    @property
    def refused(self) -> list[Decision]:
        return [d for d in self.decisions if d.refused]

    def __str__(self) -> str:
        shown = [d for d in self.decisions if not d.folded_into]
        width = max((len(d.layer) for d in shown), default=0)
        kind = max((len(d.kind) for d in shown), default=0)
        numbers = {t: sum(d.treatment == t for d in shown) for t in Treatment}
        counts = ", ".join(f"{number} {t.value}" for t, number in numbers.items() if number)
        folded: dict[str, list[str]] = {}
        for d in self.decisions:
            folded.setdefault(d.folded_into, []).append(d.layer)
        lines = [f"ec2t_tf.apply: {counts}"]
        for d in shown:
            line = f"  {d.layer:<{width}}  {d.kind:<{kind}}  {d.treatment.value:<7}  {d.reason}"
            others = ", ".join(folded.get(d.layer, []))
            lines.append(f"{line}; with {others}" if others else line)
        lines += [f"  rewritten: {note}" for note in self.rewritten]
        lines += [f"  rule that decided nothing: {rule}" for rule in self.unused_rules]
        return "\n".join(lines)


class Policy:
    """Which layer gets which treatment: the first rule that matches, else the defaults.

    The defaults: the first and the last layer with a kernel, and depthwise convolutions, stay int8,
    because they hold few weights and lose most by ternarization. Every other layer that can be
    ternary is. A net with several inputs or heads has a first or last layer for each (`ends`
    says exactly which); of a recurrent first layer only the matrix of the inputs stays int8.

    Args:
      rules: `Rule` objects in the order in which they are tried. `Rule("ternary")` at the end
        replaces the defaults.

    >>> Policy([Rule("int8", name="block1_.*"), Rule("prune", kind="Dense")])
    """

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self.rules = tuple(rules)
        for rule in self.rules:
            if not isinstance(rule, Rule):
                raise TypeError(f"Policy requires ec2t_tf.Rule objects. Received: {rule!r}.")

    @classmethod
    def of(cls, policy: Any) -> Policy:
        """The `Policy` that `apply` was given: one, `{"layer name": "treatment"}`, a path or None.

        Raises:
          ValueError: an unknown treatment, or a file that is no policy.
          TypeError: none of these.
        """
        if policy is None:
            return cls()
        if isinstance(policy, Policy):
            return policy
        if isinstance(policy, Mapping):
            return cls(Rule(treatment, name=re.escape(name)) for name, treatment in policy.items())
        if isinstance(policy, str | os.PathLike):
            try:
                return cls.from_json(Path(policy).read_text())
            except OSError as error:
                raise ValueError(
                    "A policy given as text must be the path of a JSON file. "
                    f"Received: policy={os.fspath(policy)!r}, which cannot be read: {error}."
                ) from error
        raise TypeError(
            'policy must be a Policy, {"layer name": "ternary"}, the path of a JSON file, or None. '
            f"Received: {policy!r}."
        )

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Reads `{"rules": [{"treatment": "int8", "name": "...", "kind": "..."}, ...]}`.

        Raises:
          ValueError: not JSON, or not of this form.
        """
        try:
            data = json.loads(text)
        except (json.JSONDecodeError, RecursionError) as error:
            raise ValueError(f"A policy must be JSON. Received: {text[:60]!r}: {error}.") from error
        rules = data.get("rules") if isinstance(data, Mapping) else None
        if not isinstance(rules, list) or set(data) != {"rules"}:
            raise ValueError(
                f'A policy must be an object {{"rules": [...]}}. Received: {json.dumps(data)[:80]}.'
            )
        return cls(_rule_from_json(entry) for entry in rules)

    def to_json(self) -> str:
        """The inverse of `from_json`.

        Raises:
          ValueError: a rule has a predicate, which no file can hold.
        """
        entries = []
        for rule in self.rules:
            if rule.predicate is not None:
                raise ValueError(
                    "Only rules by name and kind can be written as JSON. "
                    f"Received: a rule with the predicate {rule.predicate!r}."
                )
            entries.append({"treatment": rule.treatment.value, **rule._conditions()})
        return json.dumps({"rules": entries}, indent=2)


def _rule_from_json(entry: Any) -> Rule:
    keys = {"treatment", "name", "kind"}
    if not isinstance(entry, Mapping) or "treatment" not in entry or not set(entry) <= keys:
        raise ValueError(
            'A rule must be an object with "treatment" and, if wanted, "name" and "kind". '
            f"Received: {json.dumps(entry)[:80]}."
        )
    if not all(isinstance(value, str) for value in entry.values()):
        raise ValueError(f"The values of a rule must be text. Received: {json.dumps(entry)[:80]}.")
    return Rule(**entry)
