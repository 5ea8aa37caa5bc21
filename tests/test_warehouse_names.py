from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackcore.warehouse import MAX_NAME, event_table, schema_name, slug
from trackcore.warehouse.names import column_places, fit

PUBLISHED = (
    ("@49L0S145_¬fwHƒ0TSLNVp", "49l0s145_fw_h_0tslnvp"),
    ("lk0B@bFmjrLQ_Z6YL", "lk0_b_b_fmjr_lq_z6yl"),
    ("samPLE text", "sam_ple_text"),
    ("sample text", "sample_text"),
    ("sample-text", "sample_text"),
    ("sample_text", "sample_text"),
    ("sample___text", "sample_text"),
    ("sampleText", "sample_text"),
    ("inviteYourCustomersAddInvites", "invite_your_customers_add_invites"),
    ("sample 2 Text", "sample_2_text"),
    ("   sample   2    Text   ", "sample_2_text"),
    ("   $#$sample   2    Text   ", "sample_2_text"),
    ("SAMPLE 2 TEXT", "sample_2_text"),
    ("___$$Base64Encode", "base64_encode"),
    ("FOO:BAR$BAZ", "foo_bar_baz"),
    ("FOO#BAR#BAZ", "foo_bar_baz"),
    ("something.com", "something_com"),
    ("$something%", "something"),
    ("•¶§ƒ˚foo˙∆˚¬", "foo"),
    ("CStringRef", "cstring_ref"),
    ("5test", "5test"),
    ("test5", "test5"),
    ("THE5r", "the5r"),
    ("5TEst", "5test"),
    ("_5TEst", "5test"),
    ("@%#&5TEst", "5test"),
    ("edf_6N", "edf_6n"),
    ("f_pX9", "f_p_x9"),
    ("p_z9Rg", "p_z9_rg"),
    ("2FA Enabled", "2fa_enabled"),
    ("Enabled 2FA", "enabled_2fa"),
)
"""The pairs of snake_test.go in https://github.com/segmentio/go-snakecase (MIT), each once."""


class TestSlug:
    """Segment's docs: "Segment uses the go-snakecase package to format table names."."""

    @pytest.mark.parametrize(("name", "expected"), PUBLISHED)
    def test_it_agrees_with_the_library_that_segment_names(self, name: str, expected: str) -> None:
        assert slug(name) == expected

    @given(st.text())
    def test_a_slug_is_its_own_slug(self, name: str) -> None:
        assert slug(slug(name)) == slug(name)

    @given(st.text())
    def test_it_has_single_underscores_between_small_letters_and_digits(self, name: str) -> None:
        assert re.fullmatch(r"([a-z0-9]+(_[a-z0-9]+)*)?", slug(name))

    @given(st.lists(st.text(max_size=6), max_size=4))
    def test_the_slug_of_a_path_is_that_of_its_keys_joined(self, keys: list[str]) -> None:
        path = ""
        for key in keys:
            ((path, _),) = column_places(path, (key,))
        assert path == slug(" ".join(keys))


class TestLongNames:
    """PostgreSQL, 4.1.1: "identifier length is 63 bytes ... longer names ... will be truncated"."""

    @given(st.text(max_size=80))
    def test_no_name_is_longer_than_postgresql_keeps(self, name: str) -> None:
        assert len(fit(slug(name)).encode()) <= MAX_NAME
        assert len(schema_name(name, "some_{source}_tables").encode()) <= MAX_NAME

    def test_a_name_that_fits_is_not_changed(self) -> None:
        assert fit("x" * 63) == "x" * 63

    def test_long_names_that_differ_at_their_end_stay_two(self) -> None:
        assert len({fit("x" * 300), fit("x" * 299 + "y"), fit("x" * 63)}) == 3


class TestTables:
    @pytest.mark.parametrize("name", ["tracks", "Users", "PAGES", "aliases", "accounts"])
    def test_an_event_named_like_a_standard_table_gets_an_underscore(self, name: str) -> None:
        assert event_table(name) == f"_{name.lower()}"

    @pytest.mark.parametrize("name", ["", "Заказ оплачен", "___", "🎉"])
    def test_an_event_without_an_ascii_letter_has_no_table(self, name: str) -> None:
        assert event_table(name) is None

    @given(st.text())
    def test_no_event_takes_a_table_of_bookkeeping(self, name: str) -> None:
        table = event_table(name)
        assert (
            table is None
            or not table.startswith("_")
            or table[1:]
            in {
                *("tracks", "identifies", "users", "groups", "accounts", "pages", "screens", "aliases"),
            }
        )


class TestColumns:
    @pytest.mark.parametrize("name", ["xmin", "ctid", "tableoid"])
    def test_a_system_column_of_postgresql_gets_an_underscore(self, name: str) -> None:
        assert column_places("", (name,))[0][1] == f"_{name}"


class TestSchemas:
    def test_it_is_the_slug_of_the_source(self) -> None:
        assert schema_name("My Website") == "my_website"

    def test_it_is_put_into_the_pattern(self) -> None:
        assert schema_name("My Website", "events_{source}") == "events_my_website"

    @pytest.mark.parametrize("source", ["PG Stats", "information_schema"])
    def test_names_of_postgresql_itself_get_an_underscore(self, source: str) -> None:
        assert schema_name(source) == f"_{slug(source)}"

    def test_sources_without_an_ascii_letter_stay_two(self) -> None:
        assert schema_name("сайт") != schema_name("приложение")
