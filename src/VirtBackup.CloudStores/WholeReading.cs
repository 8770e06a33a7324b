using System.Buffers;
using VirtBackup.CloudStores.Requests;
using VirtBackup.CloudStores.Spool;

namespace VirtBackup.CloudStores;

/// <summary>A whole object on its way into the spool: an answer that breaks off is continued where it ended. Not safe for concurrent use.</summary>
internal sealed class WholeReading(ICloudRequests requests, SpoolFolder spool, string name, long bytesMax) : IDisposable
{
    private const int BufferBytes = 128 << 10;

    // Bytes that arrive damaged so often in a row lie damaged: who needs a part of them may find that one sound.
    private const int DamagedReadsMax = 3;

    private SpooledContent _content = new(spool);
    private string? _version;
    private int _damaged;

    /// <summary>One request for what is missing; returns the whole object, the caller's from then on. Null: it is too long, or no hash proves it.</summary>
    public async Task<SpooledContent?> ContinueAsync(CancellationToken cancellationToken)
    {
        CloudBody body;
        try
        {
            body = await requests.GetAsync(name, _content.Length, bytesMax, _version, cancellationToken);
        }
        catch (CloudRequestException changed) when (changed.Kind is FailureKind.ConditionFailed or FailureKind.BehindEnd)
        {
            Reset();
            throw new CloudRequestException(FailureKind.Passing, "the object was replaced while it was read", changed);
        }
        using (body)
        {
            if (body.Mark is not { } mark || body.ObjectLength > bytesMax)
            {
                return null;
            }
            if (body.Length != body.ObjectLength - _content.Length)
            {
                throw new CloudRequestException(FailureKind.Passing, $"{body.ObjectLength - _content.Length} bytes were asked for and {body.Length} announced");
            }
            _version = body.Version;
            await CopyAsync(body.Stream, body.ObjectLength, cancellationToken);
            if (_content.Length < body.ObjectLength)
            {
                throw new CloudRequestException(FailureKind.Passing, $"the answer ended {body.ObjectLength - _content.Length} bytes early");
            }
            if (_content.Finish() != mark.Sha256)
            {
                Reset();
                return ++_damaged >= DamagedReadsMax ? null : throw new CloudRequestException(FailureKind.Passing, "what was read has another hash than what was stored");
            }
        }
        var whole = _content;
        _content = new SpooledContent(spool);
        return whole;
    }

    public void Dispose() => _content.Dispose();

    private void Reset()
    {
        _content.Dispose();
        (_content, _version) = (new SpooledContent(spool), null);
    }

    private async Task CopyAsync(Stream stream, long length, CancellationToken cancellationToken)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(BufferBytes);
        try
        {
            while (_content.Length < length)
            {
                int count;
                try
                {
                    count = await stream.ReadAsync(buffer.AsMemory(0, (int)Math.Min(BufferBytes, length - _content.Length)), cancellationToken);
                }
                catch (Exception broken) when (broken is not OperationCanceledException)
                {
                    throw requests.Translate(broken);
                }
                if (count == 0)
                {
                    return;
                }
                await _content.WriteAsync(buffer.AsMemory(0, count), cancellationToken);
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }
}
