package taskgateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"net/http"
	"strings"
	"time"
)

const (
	firstPause   = 250 * time.Millisecond
	longestPause = 5 * time.Second
)

// news is one line of a stream, or the answer to a poll as the task alone.
type news struct {
	Cursor string
	Event  string // empty where there is a task
	ID     string
	Error  string
	Task   json.RawMessage
}

// following is a URL that is followed: through as many connections as it takes, each from where the last one ended.
type following struct {
	*Client
	address  string
	single   bool          // one task: each of its states is a place to resume from, and a poll shows it
	interval time.Duration // between polls, where the server does not stream
	cursor   string
	take     func(news) error // an *ending ends it, any other error the connection
	lasting  func(error) bool // whether an error ends it because it will not pass
	opened   func() error     // called when a stream starts anew instead of resuming

	heard    time.Time // when the server last said anything; zero before it did
	failures int       // since all there was had been said
	shown    string    // the answer to the poll before
}

// ending ends it all: with an error, or well where there is none in it.
type ending struct{ err error }

func (e *ending) Error() string { return fmt.Sprint("ended: ", e.err) }

var errNoStream = errors.New("the server does not stream: it is no gateway")

func (f *following) run(ctx context.Context) error {
	random := rand.New(rand.NewSource(time.Now().UnixNano()))
	for {
		err := f.connect(ctx)
		pause := f.interval
		var end *ending
		switch {
		case errors.As(err, &end):
			return end.err
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && f.lasting(err):
			return err
		case err != nil:
			pause = backOff(f.failures, random.Float64()) + awayFor(err)
			f.failures++
			if f.Lost != nil {
				f.Lost(err, pause)
			}
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// connect makes one connection and reads it to its end; nil is an answered poll.
func (f *following) connect(ctx context.Context) error {
	accept := ndjson
	if f.single {
		accept += ", application/json;q=0.5" // a server that does not know the first shall not refuse
	}
	a, err := f.ask(ctx, f.address, accept, f.cursor)
	if err != nil {
		return err
	}
	defer a.close()
	switch {
	case a.streams():
		return f.read(a)
	case a.status() == http.StatusOK && f.single:
		return f.readPoll(a)
	case a.status() == http.StatusOK:
		return errNoStream
	case a.status() == http.StatusNoContent && f.cursor != "":
		return &ending{} // the state that it has is the last
	}
	refusal := a.failure()
	if f.single && refusal.tooMany() {
		if err := f.poll(ctx); err != nil { // a gateway that has too many streams still answers polls
			return err
		}
	}
	return refusal
}

func (f *following) read(a *answer) error {
	resumable := f.single || f.cursor != "" // a place inside a snapshot is none to resume from
	if f.cursor == "" && f.opened != nil {
		if err := f.opened(); err != nil {
			return err
		}
	}
	lines := a.lines()
	for lines.Scan() {
		f.heard = time.Now()
		if len(lines.Bytes()) == 0 {
			continue // a heartbeat
		}
		var said news
		if err := json.Unmarshal(lines.Bytes(), &said); err != nil {
			return fmt.Errorf("a line of the stream cannot be read: %w", err)
		}
		switch said.Event {
		case Reset:
			f.cursor, resumable = "", f.single
		case Synced:
			resumable, f.failures = true, 0
		}
		if resumable && said.Cursor != "" {
			f.cursor = said.Cursor
		}
		said.Cursor = f.cursor
		if err := f.take(said); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	return errors.New("the server ended the stream")
}

// poll asks for the state alone.
func (f *following) poll(ctx context.Context) error {
	a, err := f.ask(ctx, f.address, "application/json", "")
	if err != nil {
		return err
	}
	defer a.close()
	if a.status() != http.StatusOK {
		return a.failure()
	}
	return f.readPoll(a)
}

// readPoll takes the answer to a poll, unless it is that of the poll before.
func (f *following) readPoll(a *answer) error {
	body, err := a.body()
	if err != nil {
		return err
	}
	f.heard = time.Now()
	if string(body) != f.shown {
		if err := f.take(news{Task: body}); err != nil {
			return err
		}
	}
	f.shown, f.failures = string(body), 0
	f.cursor = strings.Trim(a.response.Header.Get("ETag"), `"`) // a gateway's stream goes on after it
	return nil
}

// backOff doubles with each failure; spread, so that clients who lost one server do not all come back at once.
func backOff(failures int, random float64) time.Duration {
	pause := longestPause
	if failures < 10 && firstPause<<failures < longestPause {
		pause = firstPause << failures
	}
	return time.Duration(float64(pause) * (0.5 + random/2))
}

func awayFor(err error) time.Duration {
	var refusal *HTTPError
	if errors.As(err, &refusal) {
		return refusal.RetryAfter
	}
	return 0
}

func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
