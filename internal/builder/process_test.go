package builder

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// TestChildless: a program that runs another one is told from one that does not, and from one that has ended.
func TestChildless(t *testing.T) {
	t.Parallel()
	for script, childless := range map[string]bool{"exec sleep 60": true, "sleep 60 & wait": false} {
		cmd := exec.Command("sh", "-c", script)
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		p, err := startProcess(cmd)
		if err != nil {
			t.Fatal(err)
		}
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		// The shell starts without a child in both cases.
		for deadline := time.Now().Add(20 * time.Second); p.childless() != childless && time.Now().Before(deadline); {
			<-tick.C
		}
		if p.childless() != childless {
			t.Errorf("%q: childless is %v", script, !childless)
		}
		if err := p.kill(); err != nil {
			t.Error(err)
		}
		if p.childless() {
			t.Errorf("%q: it has ended, and is called childless", script)
		}
	}
}
