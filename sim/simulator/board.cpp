// SPDX-License-Identifier: Apache-2.0
// A simulated board at the end of a cable: its serial port is a pseudo-terminal, whose name is the first line of the
// output. CYCLES_PER_BIT is the UART's divisor, GAP_CYCLES the time-out between the bytes of a packet, which is over when
// the line has been quiet for GAP_MS. Ends when its standard input does. With "--trace-file FILE" it writes waveforms, if
// it was built for them.

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>

#include "Vtop.h"
#include "verilated.h"
#if VM_TRACE_FST
#include "verilated_fst_c.h"
#elif VM_TRACE
#include "verilated_vcd_c.h"
#endif

namespace {

// If nothing happens for QUIET_CYCLES cycles, the simulation waits for a byte or for GAP_MS. They are fewer than
// GAP_CYCLES, so that no packet is forgotten before GAP_MS.
constexpr uint64_t QUIET_CYCLES = 100000;
static_assert(QUIET_CYCLES < GAP_CYCLES, "a packet would be forgotten too soon");

// The clock is stable and the reset over.
constexpr int START_CYCLES = 1000;

// The computer's end of the cable.
class Terminal {
public:
    bool open() {
        master = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
        if (master < 0 || grantpt(master) != 0 || unlockpt(master) != 0) return false;
        // Held open, or reading would fail while no program has it open.
        slave = ::open(ptsname(master), O_RDWR | O_NOCTTY);
        termios settings;
        if (slave < 0 || tcgetattr(slave, &settings) != 0) return false;
        cfmakeraw(&settings);
        return tcsetattr(slave, TCSANOW, &settings) == 0 && printf("%s\n", ptsname(master)) > 0 && fflush(stdout) == 0;
    }

    bool take(uint8_t &byte) {
        if (place == count) {
            place = count = 0;
            const ssize_t got = read(master, bytes, sizeof bytes);
            if (got <= 0) return false;
            count = got;
        }
        byte = bytes[place++];
        return true;
    }

    // What nobody reads is lost, as on a cable.
    void give(uint8_t byte) { lost += write(master, &byte, 1) != 1; }

    enum class Event { NOTHING, BYTE, END };

    // Waits at most `milliseconds` (-1: without limit) for a byte or the end of stdin.
    Event wait(int milliseconds) {
        pollfd sources[] = {{master, POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
        if (poll(sources, 2, milliseconds) <= 0) return Event::NOTHING;
        return sources[1].revents != 0 ? Event::END : Event::BYTE;
    }

private:
    int master = -1, slave = -1;
    uint8_t bytes[4096];
    ssize_t place = 0, count = 0;
    uint64_t lost = 0;
};

// Bytes onto a wire.
class Sender {
public:
    bool idle() const { return bits == 0; }
    void send(uint8_t byte) { frame = 0x200 | byte << 1, bits = 10, cycles = 0; }
    bool step() {
        const bool level = bits == 0 || (frame & 1);
        if (bits != 0 && ++cycles == CYCLES_PER_BIT) cycles = 0, frame >>= 1, bits--;
        return level;
    }

private:
    unsigned frame = 0, bits = 0, cycles = 0;
};

// Bytes from a wire: each bit in its middle.
class Receiver {
public:
    bool idle() const { return !active; }
    bool step(bool level, uint8_t &byte) {
        if (!active) {
            active = !level, cycles = 0, bits = 0;
            return false;
        }
        if (++cycles < CYCLES_PER_BIT * bits + CYCLES_PER_BIT / 2) return false;
        // The start bit leaves the register at the end; the stop bit is the tenth.
        frame = frame >> 1 | level << 9;
        if (++bits < 10) return false;
        active = false;
        byte = frame >> 1;
        return level;
    }

private:
    bool active = false;
    unsigned frame = 0, bits = 0, cycles = 0;
};

// Waveforms, if they are wanted; a clock cycle counts as 10 ns.
class Waves {
public:
#if VM_TRACE
    Waves(Vtop &top, int argc, char **argv) {
        for (int place = 1; place + 1 < argc; place++) {
            if (strcmp(argv[place], "--trace-file") != 0) continue;
            top.trace(&file, 99);
            file.open(argv[place + 1]);
        }
    }
    void step() {
        if (file.isOpen()) file.dump(time += 5);
    }
    void close() {
        if (file.isOpen()) file.close();
    }

private:
    uint64_t time = 0;
#if VM_TRACE_FST
    VerilatedFstC file;
#else
    VerilatedVcdC file;
#endif
#else
    Waves(Vtop &, int, char **) {}
    void step() {}
    void close() {}
#endif
};

}  // namespace

int main(int argc, char **argv) {
    VerilatedContext context;
    context.commandArgs(argc, argv);
    context.traceEverOn(VM_TRACE);
    Vtop top{&context};
    Waves waves{top, argc, argv};
    const auto step = [&top, &waves](bool level) {
        top.rx = level;
        top.clk = 1;
        top.eval();
        waves.step();
        top.clk = 0;
        top.eval();
        waves.step();
    };
    // Nothing is connected before the board is ready.
    for (int cycle = 0; cycle < START_CYCLES; cycle++) step(true);
    Terminal terminal;
    if (!terminal.open()) {
        perror("pseudo-terminal");
        return 1;
    }
    Sender sender;
    Receiver receiver;
    uint64_t quiet = 0;
    for (uint64_t cycle = 0;; cycle++) {
        uint8_t byte;
        if (cycle % CYCLES_PER_BIT == 0 && sender.idle() && terminal.take(byte)) sender.send(byte);
        step(sender.step());
        if (receiver.step(top.tx, byte)) terminal.give(byte);
        quiet = sender.idle() && receiver.idle() && !top.busy ? quiet + 1 : 0;
        if (quiet > QUIET_CYCLES) {
            Terminal::Event event = terminal.wait(GAP_MS);
            if (event == Terminal::Event::NOTHING) {
                for (uint64_t passed = 0; passed <= GAP_CYCLES; passed++) step(true);
                event = terminal.wait(-1);
            }
            if (event == Terminal::Event::END) break;
            quiet = 0;
        } else if (cycle % 65536 == 0 && terminal.wait(0) == Terminal::Event::END) {
            break;
        }
    }
    top.final();
    waves.close();
    return 0;
}
