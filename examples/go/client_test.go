package taskgateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

// What a real gateway does is tried in tests/test_go_client.py; here is what it does not do when told to.

// turn answers one connection.
type turn func(http.ResponseWriter, *http.Request)

// serve gives each connection its turn, the last one again and again; it returns what was asked.
func serve(t *testing.T, turns ...turn) (*Client, *[]http.Header) {
	asked := []http.Header{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := len(asked)
		asked = append(asked, r.Header)
		if n >= len(turns) {
			n = len(turns) - 1
		}
		turns[n](w, r)
	}))
	t.Cleanup(server.Close)
	return &Client{URL: server.URL + "/", Heartbeat: 100 * time.Millisecond}, &asked
}

func says(lines ...string) turn {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", ndjson+"; charset=utf-8")
		fmt.Fprint(w, strings.Join(lines, ""))
	}
}

func state(cursor string, progress int, status string) string {
	payload := fmt.Sprintf(`{"id":"a","status":%q,"progress":%d,"message":"m","data":null}`, status, progress)
	return fmt.Sprintf(`{"cursor":%q,"task":{"status":"success","payload":%s}}`+"\n", cursor, payload)
}

func watch(t *testing.T, c *Client) ([]int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var seen []int
	_, err := c.Watch(ctx, "a", func(task Task) { seen = append(seen, task.Progress) })
	return seen, err
}

func sees(t *testing.T, c *Client, want ...int) {
	t.Helper()
	if seen, err := watch(t, c); err != nil || !reflect.DeepEqual(seen, want) {
		t.Fatalf("saw %v, %v; want %v", seen, err, want)
	}
}

func TestATornLineIsNoStateAndIsComeBackFor(t *testing.T) {
	torn := says(state("one", 1, "running"), `{"cursor":"two","task":{"status":"succ`)
	c, asked := serve(t, torn, says(state("two", 100, "completed")))
	sees(t, c, 1, 100)
	if got := (*asked)[1].Get("Last-Event-ID"); got != "one" {
		t.Fatalf("it went on after %q", got)
	}
}

func TestASilentConnectionIsDeadAndABeatingOneIsNot(t *testing.T) {
	silent := func(w http.ResponseWriter, r *http.Request) {
		says(state("one", 1, "running"))(w, r)
		for n := 0; n < 6; n++ { // twice as long as a silence may be
			w.(http.Flusher).Flush()
			time.Sleep(70 * time.Millisecond)
			fmt.Fprint(w, "\n")
		}
		fmt.Fprint(w, state("two", 2, "running"))
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	c, _ := serve(t, silent, says(state("three", 100, "completed")))
	var lost []string
	c.Lost = func(err error, _ time.Duration) { lost = append(lost, err.Error()) }
	sees(t, c, 1, 2, 100)
	if !reflect.DeepEqual(lost, []string{"nothing came for 200ms"}) {
		t.Fatal(lost)
	}
}

func TestASlowReaderLosesNoConnection(t *testing.T) {
	slow := func(w http.ResponseWriter, r *http.Request) {
		says(state("one", 1, "running"))(w, r)
		w.(http.Flusher).Flush()
		time.Sleep(50 * time.Millisecond) // so that the next line is not read with this one
		fmt.Fprint(w, state("two", 100, "completed"))
	}
	c, asked := serve(t, slow)
	task, err := c.Watch(context.Background(), "a", func(Task) { time.Sleep(300 * time.Millisecond) })
	if err != nil || !task.Final() || len(*asked) != 1 {
		t.Fatal(task, err, len(*asked))
	}
}

func TestAServerThatNeverAnswersIsDead(t *testing.T) {
	mute := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	c, _ := serve(t, mute, says(state("one", 100, "completed")))
	sees(t, c, 100)
	c, _ = serve(t, mute)
	_, err := c.WaitForCompletion(context.Background(), "a", time.Second, nil)
	if err == nil || err.Error() != "nothing came for 200ms" {
		t.Fatal(err)
	}
}

func TestItStaysAwayForAsLongAsItIsAsked(t *testing.T) {
	refuse := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		http.Error(w, "full", http.StatusServiceUnavailable)
	}
	c, asked := serve(t, refuse, refuse, says(state("one", 100, "completed"))) // the second one refuses the poll
	began := time.Now()
	sees(t, c, 100)
	if took := time.Since(began); took < time.Second || took > 3*time.Second {
		t.Fatal(took)
	}
	if got := (*asked)[1].Get("Accept"); got != "application/json" {
		t.Fatal(got)
	}
}

func TestAStreamGoesOnAfterThePollBefore(t *testing.T) {
	polled := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"one"`)
		fmt.Fprint(w, `{"status":"success","payload":{"id":"a","status":"running","progress":1}}`)
	}
	c, asked := serve(t, polled, says(state("two", 100, "completed")))
	c.Interval = time.Millisecond
	sees(t, c, 1, 100)
	if got := (*asked)[1].Get("Last-Event-ID"); got != "one" {
		t.Fatalf("it went on after %q", got)
	}
}

func TestTheStateItHasIsTheLastWhereTheServerSaysSo(t *testing.T) {
	done := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }
	c, _ := serve(t, says(state("one", 99, "running")), done)
	sees(t, c, 99)
	c, _ = serve(t, done) // to who has none it says nothing
	if _, err := watch(t, c); err == nil || err.Error() != "HTTP 204: " {
		t.Fatal(err)
	}
}

func TestAnAbsentServerIsWaitedForOnlySoLong(t *testing.T) {
	wrong := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad gateway", http.StatusBadGateway) }
	line := `{"cursor":"one","task":{"status":"running","progress":1,"message":"m"}}` + "\n"
	c, asked := serve(t, says(line), wrong)
	c.Patience = 300 * time.Millisecond
	_, err := c.WaitForCompletion(context.Background(), "a", time.Second, nil)
	var refusal *HTTPError
	if !errors.As(err, &refusal) || refusal.Error() != "HTTP 502: bad gateway\n" || len(*asked) < 3 {
		t.Fatal(err, len(*asked))
	}
}

func TestAPlaceInsideASnapshotIsNoneToResumeFrom(t *testing.T) {
	item := func(n int) string {
		return fmt.Sprintf(`{"cursor":"e-%d","task":{"id":"a","status":"running","progress":%d}}`+"\n", n, n)
	}
	c, asked := serve(t,
		says(item(1)),
		says(item(1), item(2), `{"cursor":"e-2","event":"synced"}`+"\n", item(3)),
		says(`{"event":"reset"}`+"\n", item(4)),
		says(item(4), `{"cursor":"e-4","event":"synced"}`+"\n", `{"cursor":"e-5","event":"gone","id":"a"}`+"\n"),
	)
	enough := errors.New("enough")
	var seen []string
	err := c.WatchAll(context.Background(), "", func(event Event) error {
		seen = append(seen, event.Kind+event.Cursor)
		if event.Kind == Gone {
			return enough
		}
		return nil
	})
	want := "reset task | reset task task syncede-2 taske-3 | reset task | reset task syncede-4 gonee-5"
	if got := strings.Join(seen, " "); err != enough || got != strings.ReplaceAll(want, "| ", "") {
		t.Fatal(got, err)
	}
	var after []string
	for _, header := range *asked {
		after = append(after, header.Get("Last-Event-ID"))
	}
	if !reflect.DeepEqual(after, []string{"", "", "e-3", ""}) {
		t.Fatalf("%q", after)
	}
}

func TestWhatWillNotPassEndsIt(t *testing.T) {
	forbid := func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusForbidden) }
	page := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }
	tell := func(Event) error { return nil }
	c, asked := serve(t, forbid)
	if err := c.WatchAll(context.Background(), "", tell); err.Error() != "HTTP 403: no\n" || len(*asked) != 1 {
		t.Fatal(err)
	}
	c, _ = serve(t, page)
	if err := c.WatchAll(context.Background(), "", tell); err != errNoStream {
		t.Fatal(err)
	}
	for _, address := range []string{"localhost:8080", "ftp://localhost", "http://", "http://%zz"} {
		if err := (&Client{URL: address}).WatchAll(context.Background(), "", tell); err == nil {
			t.Fatal(address)
		}
	}
}

func TestACertificateOfNobodyEndsIt(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // it complains of the client that turns away
	server.StartTLS()
	defer server.Close()
	if _, err := watch(t, &Client{URL: server.URL}); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Fatal(err)
	}
	if _, err := watch(t, &Client{URL: server.URL, HTTP: server.Client()}); err != ErrUnknown {
		t.Fatal(err)
	}
}

func TestItEndsWithItsContext(t *testing.T) {
	hold := func(w http.ResponseWriter, r *http.Request) {
		says(state("one", 1, "running"))(w, r)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	c, _ := serve(t, hold)
	c.Header = http.Header{"Authorization": {"Bearer x"}}
	ctx, cancel := context.WithCancel(context.Background())
	task, err := c.Watch(ctx, "a", func(Task) { cancel() })
	if err != context.Canceled || task.Progress != 1 {
		t.Fatal(task, err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.WaitForCompletion(ctx, "a", time.Second, nil); err != context.DeadlineExceeded {
		t.Fatal(err)
	}
	refuse := func(w http.ResponseWriter, _ *http.Request) { // while it waits for the next try
		w.Header().Set("Retry-After", "100")
		http.Error(w, "full", http.StatusTooManyRequests)
	}
	c, _ = serve(t, refuse)
	ctx, cancel = context.WithCancel(context.Background())
	c.Lost = func(error, time.Duration) { cancel() }
	if err := c.WatchAll(ctx, "", func(Event) error { return nil }); err != context.Canceled {
		t.Fatal(err)
	}
}

func TestTheHeaderGoesAlong(t *testing.T) {
	c, asked := serve(t, says(state("one", 100, "completed")))
	c.Header = http.Header{"Authorization": {"Bearer x"}}
	sees(t, c, 100)
	if got := (*asked)[0].Get("Authorization"); got != "Bearer x" {
		t.Fatal(got)
	}
}

func TestPausesGrowAndAreSpread(t *testing.T) {
	for failures, most := range map[int]time.Duration{
		0: firstPause, 1: 2 * firstPause, 4: 16 * firstPause, 5: longestPause, 999: longestPause,
	} {
		if got := backOff(failures, 0); got != most/2 {
			t.Error(failures, got)
		}
		if got := backOff(failures, 1); got != most {
			t.Error(failures, got)
		}
	}
}

func TestRetryAfterInBothForms(t *testing.T) {
	now := time.Date(2026, 1, 27, 1, 44, 55, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-7": 0, "soon": 0, "1.5": 0, "9999999999": 0, "2000000000": longestRetryAfter,
		"Tue, 27 Jan 2026 01:45:05 GMT": 10 * time.Second, "Tue, 27 Jan 2026 01:44:00 GMT": 0,
	} {
		if got := retryAfter(header, now); got != want {
			t.Error(header, got)
		}
	}
}
