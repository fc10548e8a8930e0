"""The site: links out of docs/, formulas, pages no section names; and that Zensical builds it without a warning."""

import importlib.util

import pytest

from tools import build_docs
from tools.docs import mathml
from tools.docs.site import Stage, with_unlisted

ABSENT = [name for name in build_docs.NEEDED if importlib.util.find_spec(name) is None]
needs_docs = pytest.mark.skipif(bool(ABSENT), reason=f"extra docs is not installed: {', '.join(ABSENT)}")


def test_unlisted_pages_join_the_section_of_their_folder():
    nav = [{"Home": "index.md"}, {"Methods": ["methods/index.md", {"SCLIP": "methods/sclip.md"}]}]
    got = with_unlisted(nav, ["index.md", "methods/index.md", "methods/sclip.md", "methods/x.md", "other.md"])
    assert got[1]["Methods"][-1] == "methods/x.md" and got[-1] == {"More": ["other.md"]}


@needs_docs
def test_formulas_become_mathml_and_code_stays():
    text = "$a^2$ costs $5, `$b$`\n\n```bash\necho $HOME $$\n```\n\n$$c_*$$\n"
    done = mathml.with_mathml(text)
    assert done.count("<math") == 2 and "`$b$`" in done and "echo $HOME $$" in done and "costs $5" in done
    assert "<div><math" in done and 'display="block"' in done and "*" not in done
    for wrong in (r"\frac{a", r"\left( a", r"\nosuch a"):
        with pytest.raises(ValueError, match="formula"):
            mathml.with_mathml(f"${wrong}$")


@needs_docs
def test_links_out_of_docs(tmp_path):
    names = Stage(tmp_path / "bare").fill()
    assert "repository/CONTRIBUTING.md" in names and "repository/data/photos/ATTRIBUTION.md" in names
    page = (tmp_path / "bare/docs/methods/sclip.md").read_text()
    assert "../../ovseg" not in page and "(source)" in page
    assert "(repository/CONTRIBUTING.md#parity)" in (tmp_path / "bare/docs/fidelity.md").read_text()
    assert ":class:" not in (tmp_path / "bare/ovseg/apis.py").read_text()
    Stage(tmp_path / "home", "https://example.org/ovseg").fill()
    page = (tmp_path / "home/docs/methods/sclip.md").read_text()
    assert "https://example.org/ovseg/blob/main/configs/_base_/models/sclip.py" in page


@needs_docs
def test_site_builds_without_a_warning(tmp_path, capsys):
    status = build_docs.main(["--out", str(tmp_path / "site"), "--home", ""])
    assert status == 0, capsys.readouterr().err
    page = (tmp_path / "site/methods/sclip/index.html").read_text()
    assert "<math" in page and "SelfSelfAttention" in page
    reference = (tmp_path / "site/reference/components/index.html").read_text()
    assert 'id="ovseg.attention.SelfSelfAttention"' in reference
    assert (tmp_path / "site/pictures/pipeline.svg").is_file()
    assert "fonts.googleapis" not in page


def test_without_the_extra_it_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setattr(build_docs, "NEEDED", ("no_such_package",))
    assert build_docs.main([]) == 2 and ".[docs]" in capsys.readouterr().err
