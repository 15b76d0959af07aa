"""Reports saved by consoles of many countries are read: their facts, and what their shells and compilers say."""

from __future__ import annotations

import codecs

import pytest

from provisioner.diagnosing.reports import diagnose_report
from provisioner.machine.report import decode

FACTS = "PyTorch 版本\ntorch.__version__  = 2.7.1+cu128\n"
CHINESE = "'nvcc' 不是内部或外部命令，也不是可运行的程序\n或批处理文件。\n磁盘空间不足。\n"
RUSSIAN = "Сборка пакета прервана\nOSError: [Errno 28] На устройстве не осталось свободного места\n"
SPANISH = "Se ha producido una excepción\nOSError: [Errno 28] No queda espacio en el dispositivo\n¿Qué pasó? instalación\n"
GERMAN = "Das System kann die angegebene Datei nicht finden. Prüfen Sie die Umgebung, größer\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (CHINESE, "gbk"),
        (CHINESE, "gb18030"),
        (RUSSIAN, "cp1251"),
        (RUSSIAN, "cp866"),
        (SPANISH, "cp1252"),
        (GERMAN, "latin-1"),
        *[(text, encoding) for text in (CHINESE, RUSSIAN, SPANISH) for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32")],
        ("torch.__version__  = 2.7.1+cu128\n", "utf-16-le"),
        ("torch.__version__  = 2.7.1+cu128\n", "utf-16-be"),
    ],
)
def test_text_comes_back_from_the_encodings_in_which_consoles_save(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


def test_big_endian_with_its_mark() -> None:
    assert decode(codecs.BOM_UTF16_BE + FACTS.encode("utf-16-be")) == FACTS


def test_the_messages_of_a_chinese_compiler_among_lines_of_utf8_are_read() -> None:
    raw = (
        "  × Building wheel for flash-attn did not run successfully.\n  ╰─> 输出\n".encode()
        + CHINESE.encode("gbk")
        + FACTS.encode()
    )
    text = decode(raw)
    assert "╰─> 输出" in text
    assert CHINESE in text
    machine, findings = diagnose_report(text)
    assert machine.software.torch == "2.7.1+cu128"
    assert "disk-or-tmp-full" in {finding.code for finding in findings}


@pytest.mark.parametrize("damage", [b"\xe4", b"\xff\xfe\x00", b"\x80\x81", b"\x00"])
def test_damaged_bytes_lose_no_fact(damage: bytes) -> None:
    for raw in (FACTS.encode() + damage, damage + b"\n" + FACTS.encode(), damage, FACTS.encode()[:-1] + damage):
        text = decode(raw)
        assert not raw.startswith(b"\xff\xfe") or text
    assert diagnose_report(decode(FACTS.encode() + damage))[0].software.torch == "2.7.1+cu128"


def test_utf8_cut_within_a_character_stays_utf8() -> None:
    assert decode("设备上没有空间".encode()[:-1]) == "设备上没有空\ufffd"
