// Package taskgateway follows tasks at a task-gateway: it is told by the stream of the URL that was polled, resumes
// where a connection was lost, and polls where the server does not stream. It needs the standard library alone.
package taskgateway

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client says how a gateway is reached. The zero value is good for one on this machine.
type Client struct {
	URL       string        // of the gateway; ApiHost where empty
	HTTP      *http.Client  // http.DefaultClient where nil; a Timeout would cut streams
	Header    http.Header   // goes with each request, such as an Authorization
	Heartbeat time.Duration // the gateway's: two without a byte, and a connection is dead; 15 s where zero
	Interval  time.Duration // between the polls of Watch, where the server does not stream; 1 s where zero
	Patience  time.Duration // of WaitForCompletion with a server that is away since it answered; 60 s where zero

	// Lost is told, where it is set, why a connection ended, and the pause before the next one.
	Lost func(err error, pause time.Duration)
}

// address is a URL of the gateway: a path, and what is to be escaped at its end.
func (c *Client) address(path, escaped string) (string, error) {
	base := c.URL
	if base == "" {
		base = ApiHost
	}
	parsed, err := url.Parse(base)
	if err != nil {
		return "", err
	}
	if parsed.Host == "" || (parsed.Scheme != "http" && parsed.Scheme != "https") {
		return "", fmt.Errorf("%q is not the http URL of a gateway", base)
	}
	return strings.TrimRight(base, "/") + path + escaped, nil
}

func (c *Client) httpClient() *http.Client {
	if c.HTTP == nil {
		return http.DefaultClient
	}
	return c.HTTP
}

func orElse(given, otherwise time.Duration) time.Duration {
	if given == 0 {
		return otherwise
	}
	return given
}
