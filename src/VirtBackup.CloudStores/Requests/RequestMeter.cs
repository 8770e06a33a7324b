using VirtBackup.Core;

namespace VirtBackup.CloudStores.Requests;

/// <summary>
/// Counts every request that leaves for the provider, whoever repeats it, with the lengths that its headers and the answer's
/// tell. Safe for concurrent use.
/// </summary>
/// <param name="leaseNames">Objects whose names begin so keep the owner's lease, and are counted apart, too.</param>
/// <param name="inner">Sends.</param>
internal sealed class RequestMeter(string leaseNames, HttpMessageHandler inner) : DelegatingHandler(inner)
{
    private long _writes;
    private long _reads;
    private long _lookups;
    private long _lists;
    private long _deletions;
    private long _sent;
    private long _received;
    private long _lease;

    public StoreTraffic Traffic => new(
        Interlocked.Read(ref _writes), Interlocked.Read(ref _reads), Interlocked.Read(ref _lookups), Interlocked.Read(ref _lists),
        Interlocked.Read(ref _deletions), Interlocked.Read(ref _sent), Interlocked.Read(ref _received), Interlocked.Read(ref _lease));

    protected override async Task<HttpResponseMessage> SendAsync(HttpRequestMessage request, CancellationToken cancellationToken)
    {
        Interlocked.Increment(ref CounterOf(request));
        if (IsOfLease(request))
        {
            Interlocked.Increment(ref _lease);
        }
        Interlocked.Add(ref _sent, request.Content?.Headers.ContentLength ?? 0);
        var response = await base.SendAsync(request, cancellationToken);
        if (request.Method != HttpMethod.Head)
        {
            Interlocked.Add(ref _received, response.Content.Headers.ContentLength ?? 0);
        }
        return response;
    }

    /// <summary>Its name is the end of the path, or the prefix of a list.</summary>
    private bool IsOfLease(HttpRequestMessage request)
    {
        var target = Uri.UnescapeDataString(request.RequestUri?.PathAndQuery ?? "");
        return target.Contains("/" + leaseNames, StringComparison.Ordinal) || target.Contains("prefix=" + leaseNames, StringComparison.Ordinal);
    }

    private ref long CounterOf(HttpRequestMessage request)
    {
        if (request.Method == HttpMethod.Head)
        {
            return ref _lookups;
        }
        if (request.Method == HttpMethod.Delete)
        {
            return ref _deletions;
        }
        if (request.Method != HttpMethod.Get)
        {
            return ref _writes;
        }
        var query = request.RequestUri?.Query ?? "";
        // S3 lists objects with "list-type=2" and uploads under way with "uploads", Azure lists with "comp=list".
        if (query.Contains("list-type=", StringComparison.Ordinal) || query.Contains("comp=list", StringComparison.Ordinal) || query.StartsWith("?uploads", StringComparison.Ordinal))
        {
            return ref _lists;
        }
        return ref _reads;
    }
}
