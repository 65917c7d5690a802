"""Certificates in files and by the command: made, saved, read and proved, and one line for what cannot be."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from test_certificate import made, problem

import refbound as rb
from refbound.layers import Linear
from verify import certificate
from verify.certificate import MAKERS, main, make
from verify.prover import claims
from verify.prover.claims import Rejected
from verify.prover.exact import prove


def test_a_certificate_survives_its_file_and_damage_is_one_line(tmp_path):
    _, network, certificates = made("dense", ("alpha",), N=1)
    certificate.write(certificates[0], tmp_path / "c.npz")
    assert prove(claims.read(tmp_path / "c.npz"), network) == prove(certificates[0], network)
    whole = (tmp_path / "c.npz").read_bytes()
    for damaged in (whole[:-30], b"", b"no certificate", whole[:200]):
        (tmp_path / "c.npz").write_bytes(damaged)
        with pytest.raises(Rejected, match="c.npz: not a certificate: ") as caught:
            claims.read(tmp_path / "c.npz")
        assert "\n" not in str(caught.value)


@pytest.fixture
def seven(tmp_path):
    """A network that says 7 to everything: it certifies the test images that are a 7, numbers 0, 17, 26, ..."""
    net = rb.models.mlp(np.random.default_rng(0), (784, 8, 10), input_shape=(1, 28, 28))
    net.params["3.bias"][7] += 50
    rb.save(net, tmp_path / "net.npz")
    return str(tmp_path / "net.npz")


def test_what_was_made_before_an_interrupt_is_saved(seven, tmp_path, monkeypatch):
    def stop(net, images, *rest):
        if calls.append(len(images)) or len(calls) > 1:
            raise KeyboardInterrupt
        return make(net, images, *rest)

    calls = []
    monkeypatch.setattr(certificate, "make", stop)
    with pytest.raises(KeyboardInterrupt):
        main([seven, "--eps", "0.01", "--n", "3", "--save", str(tmp_path / "some")])
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["00000.npz", "00017.npz"]


def test_the_command_makes_proves_saves_and_reads(seven, tmp_path, capsys):
    model, folder = seven, str(tmp_path / "certificates")
    assert main([model, "--eps", "0.01", "--n", "2", "--save", folder]) == 0
    out = capsys.readouterr().out
    assert "2 certificates: 2 held, 0 not proved, 0 rejected" in out and "16 images among them" in out
    assert [path.name for path in sorted(Path(folder).iterdir())] == ["00000.npz", "00017.npz"]
    capsys.readouterr()
    assert main([model, "--read", folder]) == 0 and "2 certificates: 2 held" in capsys.readouterr().out
    assert certificate.report([], 0, 0.0, 0.0) == 1  # nothing held where there was nothing
    c = claims.read(Path(folder) / "00017.npz")
    certificate.write(c._replace(l=[v - 1000 for v in c.l], u=[v + 1000 for v in c.u]).sealed(),
                      Path(folder) / "00017.npz")
    certificate.write(c._replace(eps="0.02"), Path(folder) / "00018.npz")
    (Path(folder) / "00019.npz").write_bytes(Path(model).read_bytes())
    (Path(folder) / "00020.npz").symlink_to("nowhere")
    capsys.readouterr()
    assert main([model, "--read", folder]) == 1
    out = capsys.readouterr().out
    assert ("5 certificates: 1 held, 1 not proved, 3 rejected" in out
            and all(f"{i}.npz: rejected" in out for i in ("00019", "00020"))
            and "clipped to [0, 1]; pairs of an image and its label: 1\n" in out)
    assert ("00017.npz: not proved: its worst margin has the exact bound" in out
            and "00018.npz: rejected: it has changed" in out)
    for arguments, line in (([model], "--eps: a network file does not say"),
                            ([model, "--eps", "2"], "--eps: expected at most 1, as pixels"),
                            ([model, "--eps", "1e400"], "--eps: expected at most 1"),
                            ([model, "--eps", "nan"], "eps: expected a decimal"),
                            ([model, "--read", str(tmp_path / "none")], "no certificates")):
        with pytest.raises(ValueError, match=line):
            main(arguments)


def test_what_was_proved_is_said_and_options_that_would_not_change_it_are_refused(tmp_path, capsys):
    """Of two images, then of the first once more: the ε that their certificates say, whatever ε is asked for."""
    net, _, images, labels = problem("dense")
    net.params["4.bias"][:] = np.where(np.arange(net.classes) == labels[0], 100, 0)
    rb.save(net, tmp_path / "net.npz")
    command = [str(tmp_path / "net.npz"), "--read", str(tmp_path / "certificates")]
    (tmp_path / "certificates").mkdir()
    pixels = np.full(images[:1].shape, "0.02")
    pixels[0, 0] = "1/10"
    made = [*make(net, images, labels[[0, 0]], "0.03"), *make(net, images[:1], labels[:1], pixels, clipped=False)]
    for k, said in (
            (2, "ε = 0.03; clipped to [0, 1]; pairs of an image and its label: 2"),
            (3, "ε from 0.02 to 1/10; 2 clipped to [0, 1], the others not; pairs of an image and its label: 2")):
        for i, (c, _) in enumerate(made[:k]):
            certificate.write(c, tmp_path / "certificates" / f"{i}.npz")
        assert (main(command) == 0 and f"{k} certificates: {k} held" in (out := capsys.readouterr().out)
                and f"held: {said}\n" in out)
    for options, got in ((["--eps", "0.3", "--no-clip"], "eps = 0.3, no-clip = True"), (["--n", "1"], "n = 1"),
                         (["--clip"], "no-clip = False")):
        with pytest.raises(ValueError, match=f"--read: .* expected no other option, got {got}$"):
            main([*command, *options])


def test_a_command_that_finds_nothing_to_certify_stops_and_says_what_helps(tmp_path, capsys):
    """A network that says 3 to everything certifies image 18, 30 and 32 of the test set first: those that are a 3."""
    net = rb.models.mlp(np.random.default_rng(0), (784, 8, 10), input_shape=(1, 28, 28))
    net.params["3.bias"][3] += 50
    rb.save(net, tmp_path / "net.npz")
    command = [str(tmp_path / "net.npz"), "--eps", "0.01", "--n", "3"]
    assert main([*command, "--give-up", "18"]) == 1
    out = capsys.readouterr().out
    assert "stopped after 18 images in a row without a certificate (--give-up): --method cap," in out
    assert "0 certificates" in out and "18 images among them have no float bound" in out
    assert main([*command, "--give-up", "19"]) == 0
    assert "3 certificates: 3 held" in (out := capsys.readouterr().out) and "stopped" not in out
    assert (main([*command, "--give-up", "10", "--method", "cap"]) == 1
            and "a smaller --eps may find some" in capsys.readouterr().out)
    with pytest.raises(ValueError, match="--give-up: expected at least 1"):
        main([*command, "--give-up", "0"])


def test_a_network_without_a_relu_is_certified_and_proved(tmp_path, capsys):
    net = rb.models.initialise(np.random.default_rng(0), [Linear(784, 10)], (784,), np.float32)
    net.params["0.bias"][7] += 5
    rb.save(net, tmp_path / "net.npz")
    for method in MAKERS:
        assert main([str(tmp_path / "net.npz"), "--eps", "0.01", "--n", "1", "--method", method]) == 0
        assert "1 certificates: 1 held" in capsys.readouterr().out
    assert main([str(tmp_path / "net.npz"), "--eps", "1", "--no-clip", "--n", "1", "--give-up", "3"]) == 1
    assert "a smaller --eps may find some" in capsys.readouterr().out


def test_an_exact_bound_of_any_size_is_told():
    for exponent, words in ((1, "the exact bound 10, which is 10"), (400, "about 2^1328"), (-400, "about 2^-1328"),
                            (-5000, "about 2^-1660")):
        assert words in certificate.in_words(Fraction(10) ** exponent)


def test_an_exponent_that_would_take_all_memory_is_no_eps():
    with pytest.raises(ValueError, match="eps: expected a decimal fraction, got '1e-999999999'"):
        make(None, [], [], "1e-999999999")


def test_a_command_that_could_not_end_or_begin_is_refused(tmp_path, capsys):
    rb.save(rb.models.mlp(np.random.default_rng(0), widths=(784, 6, 4), input_shape=(1, 28, 28)), tmp_path / "net.npz")
    for argv, words in ((["--n", "0"], "--n: expected at least 1"), (["--steps", "-1"], "--steps: expected at least 0"),
                        (["--n", "1"], "expected 10 classes, as the data, got 4")):
        with pytest.raises(ValueError, match=words):
            main([str(tmp_path / "net.npz"), "--eps", "0.1", *argv])
    with pytest.raises(SystemExit):
        main([str(tmp_path / "net.npz"), "--eps", "0.1", "--save", str(tmp_path / "net.npz")])
    assert "--save" in capsys.readouterr().err
