# SPDX-License-Identifier: Apache-2.0
"""The prompts of presets as their publishers' own code renders them.

`python -m tests.judge.upstream_prompts FOLDER` prints a hash for each, to be pinned in `test_presets`. The folder holds
checkouts named OWNER/NAME, each at the commit that the preset's `source` names.
"""

from __future__ import annotations

import ast
import hashlib
import re
import sys
from pathlib import Path
from typing import Any

PROMPT, COMPLETION, FIRST, SECOND = "What is 2 + 2?", "4, {response}.", "It is 4.", "It is [[B]]."
REFERENCE, RUBRIC = "Four.", "[Is it right?]\nScore 1: no\nScore 5: yes"

Rendered = tuple[str | None, str]
"""A system message, or None, and the text of the user's turn; a whole prompt where the wrapper is plain."""


def hash_of(rendered: Rendered) -> str:
    """Hash of a rendered prompt."""
    return hashlib.sha256(f"{rendered[0] or ''}\0{rendered[1]}".encode()).hexdigest()


def definitions(path: Path, **given: Any) -> dict[str, Any]:
    """What a file assigns and defines, without its imports, which may need packages that are not installed."""
    names = dict(given)
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign | ast.FunctionDef):
            try:
                exec(compile(ast.Module([node], []), str(path), "exec"), names)
            except (NameError, AttributeError):  # needs an import
                continue
    return names


def upstream(root: Path) -> dict[tuple[str, str], Rendered]:
    """By preset and task (`rating`, `comparison`, with ` + reference` for rows that have one)."""
    found: dict[tuple[str, str], Rendered] = {}
    found |= prometheus(root / "prometheus-eval" / "prometheus-eval")
    found |= rewardbench(root / "allenai" / "reward-bench")
    found |= selene(root / "atla-ai" / "selene-mini")
    found |= rm_r1(root / "RM-R1-UIUC" / "RM-R1")
    found |= flow_judge(root / "flowaicom" / "flow-judge")
    found |= compassjudger(root / "open-compass" / "CompassJudger")
    found |= arena_hard(root / "NVIDIA-NeMo" / "Gym")
    found |= qwen3_reranker(root / "QwenLM" / "Qwen3-Embedding")
    found |= llm_verifier(root / "llm-as-a-verifier" / "llm-as-a-verifier")
    return found


def prometheus(root: Path) -> dict[tuple[str, str], Rendered]:
    own = definitions(root / "libs" / "prometheus-eval" / "prometheus_eval" / "prompts.py")
    found: dict[tuple[str, str], Rendered] = {}
    for with_reference in (False, True):
        suffix = " + reference" if with_reference else ""
        rating = own["get_prompt_template"]("absolute", with_reference).format(
            instruction=PROMPT, response=COMPLETION, rubric=RUBRIC, reference_answer=REFERENCE
        )
        comparison = own["get_prompt_template"]("relative", with_reference).format(
            instruction=PROMPT, response_A=FIRST, response_B=SECOND, rubric=RUBRIC, reference_answer=REFERENCE
        )
        found["m-prometheus", f"rating{suffix}"] = own["ABS_SYSTEM_PROMPT"], rating
        found["m-prometheus-relative", f"comparison{suffix}"] = own["REL_SYSTEM_PROMPT"], comparison
        # What fastchat's conversation "mistral" makes of the two messages.
        for task, system, text in (
            ("rating", own["ABS_SYSTEM_PROMPT"], rating),
            ("comparison", own["REL_SYSTEM_PROMPT"], comparison),
        ):
            found["prometheus-2", f"{task}{suffix}"] = None, f"[INST] {system}\n{text} [/INST]"
    return found


def rewardbench(root: Path) -> dict[tuple[str, str], Rendered]:
    pairs = definitions(root / "rewardbench" / "generative.py")
    answers = [[{}, {"content": text}] for text in (FIRST, SECOND)]
    ratings = definitions(root / "rewardbench" / "generative_v2.py")
    return {
        ("rewardbench", "comparison"): pairs["format_judge_answers"](PROMPT, *answers),
        ("rewardbench-ratings", "rating"): (
            None,
            ratings["ratings_prompt"].format(prompt=PROMPT, completion=COMPLETION),
        ),
        ("selene", "comparison"): pairs["format_judge_answers"](PROMPT, *answers, model_modifier="Atla"),
    }


def selene(root: Path) -> dict[tuple[str, str], Rendered]:
    import yaml

    objective, one, five = RUBRIC.split("\n")
    found: dict[tuple[str, str], Rendered] = {}
    for suffix, name in (("", "absolute-scoring"), (" + reference", "absolute-scoring-with-reference")):
        text = yaml.safe_load((root / "prompt-templates" / f"{name}.yaml").read_text())["user_template"]
        # Our rubric has two scores, theirs five.
        text = re.sub(r"\nScore [234]: \{rubric_score_[234]_description\}", "", text)
        found["selene", f"rating{suffix}"] = (
            None,
            text.format(
                user_input=PROMPT,
                assistant_response=COMPLETION,
                reference_response=REFERENCE,
                rubric_objective=objective.strip("[]"),
                rubric_score_1_description=one.removeprefix("Score 1: "),
                rubric_score_5_description=five.removeprefix("Score 5: "),
            ),
        )
    return found


def rm_r1(root: Path) -> dict[tuple[str, str], Rendered]:
    system, user = definitions(root / "rm_r1" / "dataset" / "mix_data" / "mix_data.py")["TEMPALTE_SINGLE"]
    reasoning = definitions(root / "eval" / "reward-bench" / "rewardbench" / "generative.py")
    answers = [[{}, {"content": text}] for text in (FIRST, SECOND)]
    return {
        ("rm-r1", "comparison"): (
            system["content"],
            user["content"].format(question=PROMPT, answer_a=FIRST, answer_b=SECOND),
        ),
        ("rm-r1-reasoning", "comparison"): reasoning["format_judge_answers"](
            PROMPT, *answers, model_modifier="RM-R1-Reasoning"
        ),
    }


def flow_judge(root: Path) -> dict[tuple[str, str], Rendered]:
    class Item:
        def __init__(self, score: int, description: str) -> None:
            self.score, self.description = score, description

    metrics = definitions(
        root / "flow_judge" / "metrics" / "presets.py", RubricItem=Item, Metric=lambda **given: given
    )
    metric = metrics["RESPONSE_CORRECTNESS_5POINT"]
    own = definitions(root / "flow_judge" / "utils" / "prompt_formatter.py", RubricItem=Item, Any=Any)
    return {
        ("flow-judge", "rating + reference"): (
            None,
            own["format_user_prompt"](
                {
                    "INPUTS": own["format_vars"]([{"query": PROMPT}, {"reference_answer": REFERENCE}]),
                    "OUTPUT": own["format_vars"]([{"response": COMPLETION}]),
                    "EVALUATION_CRITERIA": metric["criteria"],
                    "RUBRIC": own["format_rubric"](metric["rubric"]),
                }
            ),
        )
    }


def compassjudger(root: Path) -> dict[tuple[str, str], Rendered]:
    text = (root / "README.md").read_text(encoding="utf-8").split('prompt = """')[1].split('"""')[0]
    filled = text.replace("{question}", PROMPT).replace("{answerA}", FIRST).replace("{answerB}", SECOND)
    return {("compassjudger", "comparison"): (None, filled)}


def arena_hard(root: Path) -> dict[tuple[str, str], Rendered]:
    import yaml

    path = root / "resources_servers" / "arena_judge" / "prompts" / "arena.yaml"
    prompt = yaml.safe_load(path.read_text(encoding="utf-8"))
    fill = {"question": PROMPT, "answer_1": FIRST, "answer_2": SECOND}
    return {
        ("arena-hard", "comparison"): (prompt["system"].format_map(fill), prompt["user"].format_map(fill))
    }


def qwen3_reranker(root: Path) -> dict[tuple[str, str], Rendered]:
    (code,) = [
        block
        for block in re.findall(r"```python\n(.*?)```", (root / "README.md").read_text("utf-8"), re.DOTALL)
        if "token_true_id =" in block
    ]
    own: dict[str, Any] = {}
    for node in ast.parse(code).body:
        named = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
        if getattr(node, "name", "") == "format_instruction" or {"prefix", "suffix"} & set(named):
            exec(compile(ast.Module([node], []), "README.md", "exec"), own)
    whole = own["prefix"] + own["format_instruction"](RUBRIC, PROMPT, COMPLETION) + own["suffix"]
    return {("qwen3-reranker", "rating"): (None, whole)}


def llm_verifier(root: Path) -> dict[tuple[str, str], Rendered]:
    own = definitions(root / "llm_verifier" / "fine_grained_reward.py")
    text = re.sub(r"<!--.*?-->", "", (root / "criteria" / "TEMPLATE.md").read_text("utf-8"), flags=re.DOTALL)
    note = text.split("## Ground Truth Note")[1].split("## Criteria")[0].strip()
    name = "Final Answer Correctness"
    description = text.split(f"### {name}")[1].split("###")[0].strip()
    criterion = {"name": name, "description": description}
    return {
        ("llm-verifier", "comparison"): (None, own["build_prompt"](PROMPT, FIRST, SECOND, criterion, note))
    }


def skywork_critic(root: Path) -> Rendered:
    """Not among the pinned ones: its text does not ship, and the preset pins the hash of the text itself."""
    import jinja2

    # As utils/prompts.py makes its environment.
    loader = jinja2.FileSystemLoader(root / "utils" / "templates")
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)
    template = environment.get_template("skywork_critic_prompt.jinja2")
    return None, template.render(input=PROMPT, response_a=FIRST, response_b=SECOND)


if __name__ == "__main__":
    for key, rendered in upstream(Path(sys.argv[1])).items():
        print(f"    {key}: {hash_of(rendered)!r},")  # noqa: T201
