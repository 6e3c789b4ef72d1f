from engines import cpu


def test_relevant_flags_are_sorted_and_others_left_out(monkeypatch, tmp_path):
    (tmp_path / "cpuinfo").write_text(
        "model name\t: Some CPU @ 2: GHz\nflags\t\t: fpu avx512_vnni avx2\n\nflags : amx_int8\n"
    )
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "cpuinfo")
    assert cpu.cpu_flags() == ("avx2", "avx512_vnni")
    assert cpu.cpu_model() == "Some CPU @ 2: GHz"


def test_a_machine_without_cpuinfo_has_no_flags(monkeypatch, tmp_path):
    monkeypatch.setattr(cpu, "_CPUINFO", tmp_path / "nothing")
    assert cpu.cpu_flags() == ()
    assert cpu.cpu_model() == "unknown"
