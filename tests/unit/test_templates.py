"""Templates: fields read, values filled in, the sandbox kept."""

import pickle

import pytest

from dspex_nb.errors import PipelineError, PipelineSyntaxError
from dspex_nb.templates import Template


def test_fields_are_the_undeclared_variables_in_order():
    template = Template("{{ b }} {% for x in items %}{{ x }}{% endfor %} {% set y = 1 %}{{ y }} {{ a.name }} {{ range }}")
    assert template.fields == ("b", "items", "a", "range")


def test_values_are_filled_in_as_text_not_html():
    assert (
        Template("Hi {{ name }} & {{ items | join(', ') }}\n").render({"name": "<b>", "items": ["x", "y"]}) == "Hi <b> & x, y\n"
    )


def test_a_missing_value_is_an_error_that_names_it():
    with pytest.raises(PipelineError, match="'name' is undefined") as caught:
        Template("Hi {{ name }}").render({"nam": 1})
    assert "did you mean 'nam'" in caught.value.hint


def test_a_bad_template_names_its_line():
    with pytest.raises(PipelineSyntaxError, match="line 2") as caught:
        Template("fine\n  {% if x %}no end")
    assert caught.value.text == "  {% if x %}no end"
    assert caught.value.column == 2


@pytest.mark.parametrize(
    "text", ["{{ x.__class__.__mro__ }}", "{{ x.__init__.__globals__ }}", "{% include 'a' %}", "{{ x['__class__'].y }}"]
)
def test_the_sandbox_holds(text):
    with pytest.raises((PipelineError, TypeError)):
        Template(text).render({"x": "text"})


def test_an_error_inside_the_values_own_code_is_told():
    with pytest.raises(PipelineError, match="ZeroDivisionError"):
        Template("{{ 1 // n }}").render({"n": 0})


def test_templates_are_values_that_pickle():
    template = Template("{{ a }}")
    assert pickle.loads(pickle.dumps(template)) == template
    assert hash(template) == hash(Template("{{ a }}"))


@pytest.mark.parametrize(
    "text", ["{{ 'x' * 10**10 }}", "{{ a * 10**9 }}", "{{ 10**10 * a }}", "{{ 7 ** (10 ** 9) }}", "{{ [0] * 10**9 }}"]
)
def test_arithmetic_that_would_hold_up_the_notebook_is_refused(text):
    with pytest.raises((PipelineError, PipelineSyntaxError), match="more than 10,000,000"):
        Template(text).render({"a": "abc"})


def test_small_arithmetic_works():
    assert Template("{{ '=' * 3 }}{{ n * 2 ** 3 }}{{ 2 * n }}").render({"n": 5}) == "===4010"
