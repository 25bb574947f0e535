// Command leash runs a program that must not outlive the test that started it:
//
//	leash PROGRAM [ARGUMENTS]
//
// becomes PROGRAM (same process id, so that signals go where they are meant to)
// and leaves a child behind that kills it once standard input is closed. The
// kernel closes it when the test process ends, in whatever way.
package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"
)

// watch is the variable that holds the process id to end; it makes this process the watcher.
const watch = "PODSWELL_LEASH_WATCH"

func main() {
	if pid, err := strconv.Atoi(os.Getenv(watch)); err == nil {
		watcher(pid)
		return
	}
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "leash:", err)
		os.Exit(127)
	}
}

func run(command []string) error {
	if len(command) == 0 {
		return fmt.Errorf("usage: leash PROGRAM [ARGUMENTS]")
	}
	program, err := exec.LookPath(command[0])
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	w := exec.Command(self)
	w.Stdin = os.Stdin
	w.Env = append(os.Environ(), watch+"="+strconv.Itoa(os.Getpid()))
	// A group of its own: a signal to the program's group leaves the watcher alone.
	w.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := w.Start(); err != nil {
		return err
	}
	return syscall.Exec(program, command, os.Environ())
}

// watcher waits for the end of standard input, then kills its parent, if that
// still is the process that it was started by.
func watcher(pid int) {
	io.Copy(io.Discard, os.Stdin)
	if os.Getppid() == pid {
		syscall.Kill(pid, syscall.SIGKILL)
	}
}
