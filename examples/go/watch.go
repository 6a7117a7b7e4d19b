package taskgateway

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"
)

// What an event of WatchAll can be.
const (
	Changed = "task"    // a task has a new state, or is told in a snapshot
	Synced  = "synced"  // all there was has been said; live from here
	Gone    = "gone"    // the file was deleted
	Invalid = "invalid" // the file cannot be shown; the last good state stays
	Reset   = "reset"   // forget what you hold, a snapshot follows
)

// Task is one state of a task, as v1 shows it.
type Task struct {
	ID       string          `json:"id"`
	Status   string          `json:"status"`   // running, completed or error
	Progress int             `json:"progress"` // 0 to 100
	Message  string          `json:"message"`
	Data     json.RawMessage `json:"data"`
	Updated  int64           `json:"updated"` // when the file was written, in unix milliseconds; of WatchAll
}

// Final tells whether the task changes no more.
func (t Task) Final() bool { return t.Status == "completed" || t.Status == "error" }

// Event is what WatchAll is told.
type Event struct {
	Kind   string `json:"kind"`
	ID     string `json:"id,omitempty"`     // empty for what concerns no single task
	Task   *Task  `json:"task,omitempty"`   // where it Changed
	Error  string `json:"error,omitempty"`  // why it is Invalid
	Cursor string `json:"cursor,omitempty"` // where WatchAll goes on after this; empty where it can only start anew
}

// ErrUnknown is of a task that has no file, and got none while it was waited for.
var ErrUnknown = errors.New("there is no such task")

// unknownTask is what the Go backend answers with, and a status of 200.
const unknownTask = 4105

// Watch follows a task until it has ended, and returns its final state, whether it succeeded or not. Each state is
// told to tell, which may be nil. Its error is that of ctx, ErrUnknown, or what will not pass by itself; all else is
// tried again.
func (c *Client) Watch(ctx context.Context, id string, tell func(Task)) (Task, error) {
	var last Task
	take := func(said news) error {
		if said.Task == nil {
			return nil // of a file that is gone for good, the next connection learns
		}
		task, err := taskOf(said.Task)
		if err != nil {
			return err
		}
		last = task
		if tell != nil {
			tell(task)
		}
		if task.Final() {
			return &ending{}
		}
		return nil
	}
	address, err := c.address("/api/v1/tasks/", url.PathEscape(id))
	if err != nil {
		return Task{}, err
	}
	f := &following{Client: c, address: address, single: true, interval: orElse(c.Interval, time.Second), take: take}
	f.lasting = f.hopeless
	err = f.run(ctx)
	var refusal *HTTPError
	if errors.As(err, &refusal) && refusal.StatusCode == http.StatusNotFound {
		err = ErrUnknown
	}
	return last, err
}

// taskOf reads the v1 envelope.
func taskOf(body json.RawMessage) (Task, error) {
	var envelope struct {
		Status  string
		Payload struct {
			Task
			Code int
		}
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		return Task{}, err
	}
	switch payload := envelope.Payload; {
	case payload.Code == unknownTask:
		return Task{}, &ending{ErrUnknown}
	case envelope.Status != "success" || payload.Status == "":
		return Task{}, fmt.Errorf("the server shows no task: %.200s", body)
	default:
		return payload.Task, nil
	}
}

// WatchAll follows every task until ctx is done, tell returns an error, or something will not pass by itself; it
// returns that error. It goes on after the cursor of an earlier event; an empty one begins with a snapshot of what is
// recent.
func (c *Client) WatchAll(ctx context.Context, cursor string, tell func(Event) error) error {
	told := func(event Event) error {
		if err := tell(event); err != nil {
			return &ending{err}
		}
		return nil
	}
	address, err := c.address("/api/v1/tasks", "")
	if err != nil {
		return err
	}
	f := &following{Client: c, address: address, cursor: cursor}
	f.opened = func() error { return told(Event{Kind: Reset}) }
	f.take = func(said news) error {
		event := Event{Kind: said.Event, ID: said.ID, Error: said.Error, Cursor: said.Cursor}
		if said.Task != nil {
			event.Task = new(Task)
			if err := json.Unmarshal(said.Task, event.Task); err != nil {
				return err
			}
			event.Kind, event.ID = Changed, event.Task.ID
		}
		return told(event)
	}
	f.lasting = f.hopeless
	return f.run(ctx)
}

// hopeless is what will not pass by itself. A name that is not found, or a certificate, may be a passing trouble
// once the gateway was reached.
func (f *following) hopeless(err error) bool {
	var refusal *HTTPError
	if errors.As(err, &refusal) {
		return !refusal.passing()
	}
	var (
		name      *net.DNSError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
	)
	unreachable := (errors.As(err, &name) && name.IsNotFound) ||
		errors.As(err, &authority) || errors.As(err, &host) || errors.As(err, &invalid)
	return errors.Is(err, errNoStream) || (f.heard.IsZero() && unreachable)
}
