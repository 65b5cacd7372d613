"""Formulas as MathML, which browsers draw by themselves: no script, no font and no network."""

import re

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

TAG = re.compile(r"\s*\\tag\{(.*?)\}")


def visit_math(translator: nodes.NodeVisitor, node: nodes.math) -> None:
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def visit_displaymath(translator: nodes.NodeVisitor, node: nodes.math_block) -> None:
    tex = node.astext()
    tag = TAG.search(tex)
    number = f'<span class="equation-number">({tag[1]})</span>' if tag else ""
    formula = tex2mathml(TAG.sub("", tex), as_block=True)
    translator.body.append(f'<div class="equation">{formula}{number}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
    app.add_css_file("equations.css")
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True}
