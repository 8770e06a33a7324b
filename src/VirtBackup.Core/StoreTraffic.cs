namespace VirtBackup.Core;

/// <summary>What a store was asked over the network since it was opened: what its provider bills. Requests that were repeated count each time.</summary>
/// <param name="Writes">Requests that store something, parts of long objects included.</param>
/// <param name="Reads">Requests for bytes of an object.</param>
/// <param name="Lookups">Requests for an object's length alone.</param>
/// <param name="Lists">Pages of lists.</param>
/// <param name="Deletions">Requests that delete.</param>
/// <param name="BytesSent">Bytes of request bodies.</param>
/// <param name="BytesReceived">Bytes of response bodies.</param>
/// <param name="Lease">Of all these, the requests that keep the owner's lease: they come with time, whatever is done.</param>
public readonly record struct StoreTraffic(long Writes, long Reads, long Lookups, long Lists, long Deletions, long BytesSent, long BytesReceived, long Lease)
{
    /// <summary>All requests.</summary>
    public long Requests => Writes + Reads + Lookups + Lists + Deletions;

    /// <summary>What came since <paramref name="earlier"/>.</summary>
    public StoreTraffic Since(in StoreTraffic earlier) => new(
        Writes - earlier.Writes, Reads - earlier.Reads, Lookups - earlier.Lookups, Lists - earlier.Lists, Deletions - earlier.Deletions,
        BytesSent - earlier.BytesSent, BytesReceived - earlier.BytesReceived, Lease - earlier.Lease);
}
