# SPDX-License-Identifier: Apache-2.0
"""A judge file for each form that a verdict can have; docs/judges.md shows the same forms."""

from __future__ import annotations

import tomllib

from autoj_reward.judge.spec import JudgeSpec, parse_spec

_PAIR = """
template = "pair"
text = "Question: {prompt}\\nA: {first}\\nB: {second}\\nWhich is better?"
"""
_ONE = """
template = "one"
text = "Question: {prompt}\\nAnswer: {completion}\\nHow good is it?"
"""
_LIST = """
template = "list"
text = "Question: {prompt}\\n{completions}How good are they?"
"""

FORMS = {
    "two outcomes": f"""
[comparison]{_PAIR}
verdict_prefix = "My verdict is [["
pattern = '''\\[\\[(?P<verdict>[A-Z])\\]\\]'''
terminators = ["]"]
written = {{ first = "A", second = "B" }}
""",
    "output (a)": f"""
[comparison]{_PAIR}
verdict_prefix = "Output ("
pattern = '''output\\s*\\((?P<verdict>[a-z])\\)'''
terminators = [")"]
written = {{ first = "a", second = "b" }}
""",
    "graded words": f"""
[comparison]{_PAIR}
verdict_prefix = "My final verdict is: [["
pattern = '''\\[\\[(?P<verdict>[AB<>=]{{1,8}})\\]\\]'''
terminators = ["]"]
values = {{ "A>>B" = 1, "A>B" = 0.75, "A=B" = 0.5, "B>A" = 0.25, "B>>A" = 0 }}
""",
    "graded -3 to 3": f"""
[comparison]{_PAIR}
verdict_prefix = "Preference: "
pattern = '''preference:\\s*(?P<verdict>[+-]?\\d+)'''
terminators = ["\\n", "."]
grades = {{ low = -3, high = 3 }}
""",
    "graded 1 to 6": f"""
[comparison]{_PAIR}
verdict_prefix = "\\\\boxed{{"
pattern = '''\\\\boxed\\{{\\s*(?P<verdict>\\d+)\\s*\\}}'''
terminators = ["}}"]
grades = {{ low = 1, high = 6, first = "low" }}
""",
    "two scores": f"""
[comparison]{_PAIR}
verdict_prefix = "Scores: "
pattern = '''(?:scores:\\s*)?(?P<verdict>\\d+[\\s,]{{1,8}}\\d+)'''
terminators = ["\\n", "."]
scores = {{ low = 1, high = 10, between = " " }}
""",
    "two scores in tags": f"""
[comparison]{_PAIR}
verdict_prefix = "<answer>"
pattern = '''(?P<verdict><answer>\\s*[\\d.]+\\s*</answer>\\s*<answer>\\s*[\\d.]+\\s*</answer>)'''
terminators = ["<"]
end_of_turn = false
scores = {{ low = 1, high = 5, step = 0.5, between = "</answer><answer>" }}
""",
    "two scores in JSON": f"""
[comparison]{_PAIR}
place = "anywhere"
verdict_prefix = '{{"score_1": '
pattern = '''(?P<verdict>"score_1"\\s*:\\s*[\\d.]+\\s*,\\s*"score_2"\\s*:\\s*[\\d.]+)'''
terminators = ["}}", ",", "\\n"]
scores = {{ low = 1, high = 10, between = ', "score_2": ' }}
""",
    "yes or no": f"""
[rating]{_ONE}
verdict_prefix = "Is it correct? "
pattern = '''(?P<verdict>yes|no)\\b'''
terminators = [".", "\\n"]
end_of_turn = true
values = {{ Yes = 1, yes = 1, No = 0, no = 0 }}
""",
    "letters": f"""
[rating]{_ONE}
verdict_prefix = "Grade: "
pattern = '''grade:\\s*(?P<verdict>[a-z])\\b'''
terminators = [".", "\\n"]
end_of_turn = true

[rating.values]
{chr(10).join(f"{letter} = {20 - n}" for n, letter in enumerate("ABCDEFGHIJKLMNOPQRST"))}
""",
    "words": f"""
[rating]{_ONE}
verdict_prefix = "The answer is"
pattern = '''the\\s+answer\\s+is\\s*(?P<verdict>\\w+)'''
terminators = [".", "\\n"]
end_of_turn = true
values = {{ " excellent" = 1, " good" = 0.75, " fair" = 0.5, " poor" = 0 }}
also = {{ " excellent" = ["outstanding"], " poor" = ["bad"] }}
""",
    "integers 0 to 100": f"""
[rating]{_ONE}
verdict_prefix = "Score: "
pattern = '''score:\\s*(?P<verdict>-?\\d+)'''
terminators = [".", "\\n"]
end_of_turn = true
scale = {{ low = 0, high = 100, step = 1 }}
""",
    "boxed": f"""
[rating]{_ONE}
verdict_prefix = "\\\\boxed{{"
pattern = '''\\\\boxed\\{{\\s*(?P<verdict>\\d+)\\s*\\}}\\$?'''
terminators = ["}}"]
scale = {{ low = 1, high = 5, step = 1 }}
""",
    "JSON field": f"""
[rating]{_ONE}
place = "anywhere"
verdict_prefix = '{{"score": '
pattern = '''"score"\\s*:\\s*"?(?P<verdict>[\\w.]+)'''
terminators = ["}}", ",", "\\n"]
scale = {{ low = 1, high = 5, step = 1 }}
""",
    "verdict first": f"""
[rating]{_ONE}
place = "start"
verdict_prefix = "Score: "
pattern = '''(?:score:\\s*)?(?P<verdict>\\d+)\\b'''
terminators = ["\\n", "."]
scale = {{ low = 1, high = 5, step = 1 }}
""",
    "list of four": f"""
[rating]{_LIST}
verdict_prefix = "Scores: "
pattern = '''scores:\\s*(?P<verdict>[+-]?[\\d.]{{1,6}}(?:[ ,]{{1,4}}[+-]?[\\d.]{{1,6}}){{0,31}})'''
terminators = [" ", "\\n", "."]
end_of_turn = true
scale = {{ low = 1, high = 10, step = 1 }}
list = {{ size = 4, overlap = 2, item = "[Answer {{index}}]\\n{{completion}}\\n", between = " " }}
""",
    "list in JSON by index": f"""
[rating]{_LIST}
place = "anywhere"
verdict_prefix = '{{"score_{{index}}": '
pattern = '''(?P<verdict>\\{{[^{{}}]{{1,400}}\\}})'''
terminators = [",", "}}"]
scale = {{ low = 1, high = 10, step = 1 }}

[rating.list]
size = 3
item = "[Answer {{index}}]\\n{{completion}}\\n"
between = ', "score_{{index}}": '
each = '''"score_(?P<index>\\d+)"\\s*:\\s*(?P<score>\\d+)'''
""",
    "two ratings in tags": f"""
[rating]{_LIST}
verdict_prefix = "<answer>"
pattern = '''(?P<verdict>(?:<answer>\\s*[\\d.]+\\s*</answer>\\s*){{2}})'''
terminators = ["<"]
scale = {{ low = 1, high = 5, step = 0.5 }}
list = {{ size = 2, item = "[Answer {{index}}]\\n{{completion}}\\n", between = "</answer><answer>" }}
""",
    "two ratings in JSON": f"""
[rating]{_LIST}
place = "anywhere"
verdict_prefix = '{{"score_{{index}}": '
pattern = '''(?P<verdict>"score_1"\\s*:\\s*[\\d.]+\\s*,\\s*"score_2"\\s*:\\s*[\\d.]+)'''
terminators = ["}}", ","]
scale = {{ low = 1, high = 10, step = 1 }}
list = {{ size = 2, item = "[Answer {{index}}]\\n{{completion}}\\n", between = ', "score_{{index}}": ' }}
""",
    "best of four": f"""
[rating]{_LIST}
verdict_prefix = "The best is [["
pattern = '''\\[\\[(?P<verdict>[A-Z])\\]\\]'''
terminators = ["]"]
list = {{ size = 4, index = "letter", best = true, item = "[Answer {{index}}]\\n{{completion}}\\n" }}
""",
}


def judge_of(form: str, **settings: object) -> JudgeSpec:
    """The judge of a form."""
    source = tomllib.loads(FORMS[form])
    return parse_spec({"name": form, "model": "org/model", **settings, **source}, origin=form)
