package taskgateway

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

const (
	ndjson            = "application/x-ndjson"
	longestBody       = 1 << 20
	longestRetryAfter = 5 * time.Minute
)

// HTTPError is an answer that shows no task. It reads as in the document.
type HTTPError struct {
	StatusCode int
	Body       string
	RetryAfter time.Duration // how long the server asks to stay away
}

func (e *HTTPError) Error() string {
	return fmt.Sprintf("HTTP %d: %s", e.StatusCode, e.Body)
}

// passing tells whether the same request may be answered later.
func (e *HTTPError) passing() bool {
	switch e.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return e.StatusCode >= 500
}

// tooMany tells whether the limits of a gateway refuse a stream.
func (e *HTTPError) tooMany() bool {
	return e.StatusCode == http.StatusServiceUnavailable || e.StatusCode == http.StatusTooManyRequests
}

// answer is what comes to one request, for as long as it shows signs of life.
type answer struct {
	response *http.Response
	cancel   context.CancelFunc
	silence  time.Duration // without a byte for so long, it is dead
	alive    *time.Timer
	dead     atomic.Bool
}

// ask sends a request. The answer must be closed.
func (c *Client) ask(ctx context.Context, address, accept, cursor string) (*answer, error) {
	ctx, cancel := context.WithCancel(ctx)
	a := &answer{cancel: cancel, silence: 2 * orElse(c.Heartbeat, 15*time.Second)}
	a.alive = time.AfterFunc(a.silence, func() {
		a.dead.Store(true)
		cancel()
	})
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		a.close()
		return nil, err
	}
	for name, values := range c.Header {
		request.Header[name] = values
	}
	request.Header.Set("Accept", accept)
	request.Header.Set("Accept-Encoding", "identity") // what packs a stream may hold it back
	if cursor != "" {
		request.Header.Set("Last-Event-ID", cursor)
	}
	a.response, err = c.httpClient().Do(request)
	if err != nil {
		a.close()
		return nil, a.reason(err)
	}
	a.alive.Stop()
	return a, nil
}

func (a *answer) close() {
	a.alive.Stop()
	a.cancel()
	if a.response != nil {
		a.response.Body.Close()
	}
}

func (a *answer) status() int { return a.response.StatusCode }

func (a *answer) streams() bool {
	return a.status() == http.StatusOK && strings.HasPrefix(a.response.Header.Get("Content-Type"), ndjson)
}

// Read is the body's. Only who waits here can say that nothing comes: the time that a reader takes elsewhere is its own.
func (a *answer) Read(block []byte) (int, error) {
	a.alive.Reset(a.silence)
	n, err := a.response.Body.Read(block)
	a.alive.Stop()
	if err != nil && err != io.EOF {
		err = a.reason(err)
	}
	return n, err
}

func (a *answer) reason(err error) error {
	if a.dead.Load() {
		return fmt.Errorf("nothing came for %v", a.silence)
	}
	return err
}

func (a *answer) lines() *bufio.Scanner {
	lines := bufio.NewScanner(a)
	lines.Buffer(nil, longestBody)
	return lines
}

func (a *answer) body() ([]byte, error) {
	return io.ReadAll(io.LimitReader(a, longestBody))
}

// failure is the answer as an error.
func (a *answer) failure() *HTTPError {
	body, _ := a.body()
	return &HTTPError{a.status(), string(body), retryAfter(a.response.Header.Get("Retry-After"), time.Now())}
}

// retryAfter reads the header in both its forms, seconds and a date (RFC 9110, 10.2.3).
func retryAfter(header string, now time.Time) time.Duration {
	var wait time.Duration
	if seconds, err := strconv.ParseUint(header, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if date, err := http.ParseTime(header); err == nil && date.After(now) {
		wait = date.Sub(now)
	}
	if wait > longestRetryAfter {
		return longestRetryAfter
	}
	return wait
}
