from helpers.notices.sentences import as_code, ignored_sentence, waiting_sentence


def test_ignored_objects_are_named_but_for_markers_of_folders() -> None:
    assert ignored_sentence(["streams/", "streams/a.txt"]) == (
        "Ignored, since they end neither in .csv nor in .csv.gz: `streams/a.txt`."
    )
    assert ignored_sentence(["streams/"]) == ""


def test_waiting_files_are_counted_and_the_first_of_them_named() -> None:
    sentence = waiting_sentence([f"streams/{n}.csv" for n in range(5)])

    assert sentence.startswith(
        "5 new files wait in streams/ (`streams/0.csv`, `streams/1.csv`, `streams/2.csv` and 2"
    )
    assert "trigger a new run" in sentence
    assert waiting_sentence(["streams/a.csv"]).startswith("1 new file waits in streams/")
    assert waiting_sentence([]) == ""


def test_names_are_text_and_never_markup() -> None:
    assert as_code("[x](http://y) `rm` \x1b[0m") == "`[x](http://y) 'rm' \N{REPLACEMENT CHARACTER}[0m`"
