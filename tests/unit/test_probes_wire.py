"""The bytes between the prober and its parent: what goes in comes out, however it is cut."""

from hypothesis import given
from hypothesis import strategies as st

from chaosd.history.values import Outcome, Sample
from chaosd.probes.wire import NAME_LENGTH_MAX, NAMES_MAX, Reader, Writer

instants = st.integers(0, 2**62)
samples = st.builds(
    Sample,
    st.integers(0, 2**32 - 1),
    instants,
    instants,
    instants,
    st.sampled_from(Outcome).map(int),
    st.integers(-1, 2**31 - 1),
    st.text(max_size=NAME_LENGTH_MAX).filter(lambda text: text.isprintable()),
)


def add(writer, sample):
    writer.sample(sample.who, *sample[:-1])


def read(reader, data, size):
    batches = []
    for at in range(0, len(data), size):
        batches += reader.feed(data[at : at + size])
    return batches


@given(
    st.lists(
        st.tuples(st.lists(samples, max_size=5), st.dictionaries(st.integers(0, 99), instants))
    ),
    st.integers(1, 200),
)
def test_batches_survive_the_pipe_in_pieces_of_any_size(batches, size):
    writer = Writer()
    data = Writer.hello({"pid": 7})
    for batch, complete in batches:
        for sample in batch:
            add(writer, sample)
        data += writer.take(complete.items())
    reader = Reader()
    assert read(reader, data, size) == batches
    assert reader.hello == {"pid": 7}


def test_more_identities_than_the_table_holds_are_all_told_right():
    names = [f"app-{n}" for n in range(NAMES_MAX + 500)]
    # One that is always there beside those that come and go, and nobody.
    sent = [Sample(1, n, n, n, 0, 200, w) for n, name in enumerate(names) for w in (name, "a", "")]
    writer, reader = Writer(), Reader()
    for sample in sent:
        add(writer, sample)
    ((received, _),) = reader.feed(writer.take(()))
    assert received == sent
    assert len(writer._names) == NAMES_MAX


def test_an_identity_is_cut_not_refused():
    writer, reader = Writer(), Reader()
    for n in range(3):
        add(writer, Sample(1, n, n, n, 0, 200, "x" * 5000))
    data = writer.take(())
    ((received, _),) = reader.feed(data)
    assert {sample.who for sample in received} == {"x" * NAME_LENGTH_MAX}
    assert len(data) < 500  # told once


def test_a_run_of_skipped_slots_is_one_dropped_sample_each_in_a_few_bytes():
    writer, reader = Writer(), Reader()
    add(writer, Sample(3, 0, 1, 2, 0, 200, "a"))
    writer.skipped(3, 10, 5, 1000, 9_000)
    add(writer, Sample(3, 5010, 5011, 9_001, 0, 200, "a"))
    data = writer.take([(3, 5015)])
    ((received, complete),) = reader.feed(data)
    assert [sample.scheduled_ns for sample in received] == [0, *range(10, 5011, 5)]
    assert received[1] == Sample(3, 10, 9_000, 9_000, Outcome.DROPPED, 0, "")
    assert complete == {3: 5015}
    assert len(data) < 200
