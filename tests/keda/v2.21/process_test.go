package keda

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// process is a running podswell.
type process struct {
	address, health string
	arguments       []string
	file            string
	command         *exec.Cmd
	// leash holds the process for as long as it is open.
	leash io.Closer
	ended chan struct{}
}

// start runs podswell in a namespace of its own and waits until it is ready.
func start(system string, flags ...string) (*process, error) {
	return startAt(freeAddress("127.0.0.1"), system, flags...)
}

// startAt is start with the address of the service given.
func startAt(address, system string, flags ...string) (*process, error) {
	if err := configure(system); err != nil {
		return nil, err
	}
	health := freeAddress("127.0.0.1")
	this := &process{
		address: address,
		health:  health,
		arguments: append([]string{
			"run", "--kubeconfig", os.Getenv("KUBECONFIG"),
			"--namespace", system, "--listen", health, "--admin-listen", freeAddress("127.0.0.1"),
			"--keda-listen", address, "--peer-listen", freeAddress("127.0.0.1"), "--log-format", "text",
		}, flags...),
		file: filepath.Join(os.TempDir(), fmt.Sprintf("podswell-%s-%d.log", system, rand.Uint32())),
	}
	return this, this.run()
}

// run starts it, again if it was ended.
func (p *process) run() error {
	log, err := os.OpenFile(p.file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	command := append([]string{os.Getenv("PODSWELL")}, p.arguments...)
	if os.Getenv("KEDA_MEASURE") != "" {
		command = onOneCore(command...)
	}
	p.command = exec.Command(os.Getenv("PODSWELL_LEASH"), command...)
	p.command.Stdout, p.command.Stderr = log, log
	if p.leash, err = p.command.StdinPipe(); err != nil {
		return err
	}
	if err := p.command.Start(); err != nil {
		return err
	}
	ended, running := make(chan struct{}), p.command
	p.ended = ended
	go func() {
		_ = running.Wait()
		close(ended)
	}()
	return within(limit, func() error {
		select {
		case <-ended:
			return fmt.Errorf("podswell ended: %v\n%s", running.ProcessState, p.log(4000))
		default:
		}
		answer, err := http.Get("http://" + p.health + "/readyz")
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			text, _ := io.ReadAll(answer.Body)
			return fmt.Errorf("not ready: %s", text)
		}
		return nil
	})
}

func (p *process) kill() {
	_ = p.command.Process.Kill()
	<-p.ended
	_ = p.leash.Close()
}

// terminate sends SIGTERM and waits for the end.
func (p *process) terminate() error {
	_ = p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(limit):
		p.kill()
		return fmt.Errorf("still there %v after SIGTERM", limit)
	}
	_ = p.leash.Close()
	if code := p.command.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("ended with %d", code)
	}
	return nil
}

// alive says whether the process that was started last still runs.
func (p *process) alive() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

func (p *process) log(bytes int) string {
	text, _ := os.ReadFile(p.file)
	return string(text[max(0, len(text)-bytes):])
}

// resident is its resident memory in bytes.
func (p *process) resident() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.command.Process.Pid))
	if err != nil {
		return 0, err
	}
	var all, resident int64
	if _, err := fmt.Sscan(string(text), &all, &resident); err != nil {
		return 0, err
	}
	return resident * int64(os.Getpagesize()), nil
}

// given are the ports that were handed out: many processes start at once, and some start again.
var given sync.Map

// freeAddress is a port that was free a moment ago and is nobody else's, below those of outgoing connections.
func freeAddress(host string) string {
	for {
		port := fmt.Sprint(12000 + rand.IntN(8000))
		if _, taken := given.LoadOrStore(port, true); taken {
			continue
		}
		address := net.JoinHostPort(host, port)
		if listener, err := net.Listen("tcp", address); err == nil {
			_ = listener.Close()
			return address
		}
	}
}
