"""Boards that people have: what a net must fit into, and how fast its clock is."""

from __future__ import annotations

from dataclasses import dataclass

KIBI, MEBI, MEGA = 1 << 10, 1 << 20, 1_000_000


@dataclass(frozen=True)
class Board:
    """A board, by its maker's data sheet.

    Attributes:
        title: Its name.
        core: A core of `to_c`.
        clock: Hz that the core runs at.
        flash, ram: Bytes for code and constants, and for data.
        waits: What stands between core and flash. Estimates leave it out: they hold where the
            cache has what it is asked for.
    """

    title: str
    core: str
    clock: int
    flash: int
    ram: int
    waits: str


BOARDS = {
    "nucleo-l4r5": Board(
        "ST NUCLEO-L4R5ZI (STM32L4R5)",
        "m4",
        120 * MEGA,
        2 * MEBI,
        640 * KIBI,
        "5 wait states, caches of 1 KiB and 256 bytes",
    ),
    "pico": Board(
        "Raspberry Pi Pico (RP2040)",
        "m0",
        125 * MEGA,
        2 * MEBI,
        264 * KIBI,
        "serial flash, cache of 16 KiB",
    ),
    "pico2": Board(
        "Raspberry Pi Pico 2 (RP2350, Arm cores)",
        "m33",
        150 * MEGA,
        4 * MEBI,
        520 * KIBI,
        "serial flash, cache of 16 KiB",
    ),
    "nrf52840": Board(
        "Nordic nRF52840-DK",
        "m4",
        64 * MEGA,
        MEBI,
        256 * KIBI,
        "2 wait states, instruction cache of 2 KiB",
    ),
    "nrf5340": Board(
        "Nordic nRF5340-DK (application core)",
        "m33",
        128 * MEGA,
        MEBI,
        512 * KIBI,
        "cache of 8 KiB",
    ),
    "esp32c3": Board(
        "Espressif ESP32-C3-DevKit",
        "rv32_unaligned",
        160 * MEGA,
        4 * MEBI,
        384 * KIBI,  # of 400: the flash's cache takes 16
        "serial flash, cache of 16 KiB",
    ),
    "nano33ble": Board(
        "Arduino Nano 33 BLE (nRF52840)",
        "m4",
        64 * MEGA,
        MEBI,
        256 * KIBI,
        "2 wait states, instruction cache of 2 KiB",
    ),
    "nano33iot": Board(
        "Arduino Nano 33 IoT (SAMD21)",
        "m0",
        48 * MEGA,
        256 * KIBI,
        32 * KIBI,
        "1 wait state, buffer of 64 bytes",
    ),
    "stm32f746": Board(
        "ST STM32F746G-DISCO",
        "m7",
        216 * MEGA,
        MEBI,
        320 * KIBI,
        "7 wait states, caches of 4 KiB",
    ),
    "apollo4": Board(
        "Ambiq Apollo4 Plus EVB",
        "m4",
        192 * MEGA,
        2 * MEBI,
        2816 * KIBI,
        "MRAM, cache of 64 KiB",
    ),
    "corstone300": Board(
        "Arm Corstone-300 (MPS3, AN547)",
        "m55",
        32 * MEGA,
        512 * KIBI,
        2 * MEBI,
        "no wait states (tightly coupled)",
    ),
}
