using Google.Protobuf;
using VirtBackup.Catalog;
using VirtBackup.Controller.Replication.Streams;
using VirtBackup.Core;
using VirtBackup.Protocol.Replication.V1;
using VirtBackup.Repository.Scrubbing;
using RecordKind = VirtBackup.Format.Records.RecordKind;

namespace VirtBackup.Controller.Replication;

/// <summary>Asks all peers that can be reached for a record that is damaged here. Streams stay open between calls. Safe for concurrent use.</summary>
public sealed class PeerRecordSource(CatalogDatabase catalog, PeerLinks links) : IRecordSource, IAsyncDisposable
{
    private readonly Gate _asking = new();
    private readonly Dictionary<string, Conversation> _open = new(StringComparer.Ordinal);

    public string Name => "peers";

    public async ValueTask<ReadOnlyMemory<byte>?> FetchAsync(RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken)
    {
        using var turn = await _asking.CloseAsync(cancellationToken);
        FaultException? away = null;
        foreach (var peer in await catalog.Peers.ListAsync(cancellationToken))
        {
            try
            {
                if (await OpenAsync(peer.Name, cancellationToken) is { } conversation && await AskAsync(conversation, kind, id, scope, cancellationToken) is { } record)
                {
                    return record;
                }
            }
            catch (FaultException fault)
            {
                // Another one may have it.
                away = fault.Reason == FaultReason.Unavailable ? fault : away;
            }
        }
        return away is null ? null : throw away;
    }

    public async ValueTask DisposeAsync()
    {
        foreach (var conversation in _open.Values)
        {
            await conversation.DisposeAsync();
        }
        _asking.Dispose();
    }

    private async ValueTask<Conversation?> OpenAsync(string peer, CancellationToken cancellationToken)
    {
        if (_open.TryGetValue(peer, out var known))
        {
            if (!known.IsBroken)
            {
                return known;
            }
            _open.Remove(peer);
            await known.DisposeAsync();
        }
        var row = await catalog.Peers.RequireAsync(peer, cancellationToken);
        if (!links.CanReach(row))
        {
            return null;
        }
        var opened = await links.OpenAsync(row, NoPace.Instance, cancellationToken);
        _open.Add(peer, opened);
        return opened;
    }

    private static async ValueTask<ReadOnlyMemory<byte>?> AskAsync(Conversation conversation, RecordKind kind, Id32 id, Id16 scope, CancellationToken cancellationToken)
    {
        var ask = new ReadRecordAsk
        {
            Kind = kind == RecordKind.Map ? Protocol.Replication.V1.RecordKind.Map : Protocol.Replication.V1.RecordKind.Data,
            Id = ByteString.CopyFrom(id.ToArray()), ScopeId = scope.ToString(),
        };
        using var record = new MemoryStream();
        await foreach (var part in conversation.AskAsync(new Ask { ReadRecord = ask }, cancellationToken))
        {
            if (part.PartCase != Answer.PartOneofCase.Data || record.Length + part.Data.Length > Limits.ChunkBytesMax * 2)
            {
                throw conversation.Confused();
            }
            record.Write(part.Data.Span);
        }
        return record.ToArray();
    }
}
