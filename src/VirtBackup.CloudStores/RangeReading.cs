using System.Security.Cryptography;
using VirtBackup.CloudStores.Requests;

namespace VirtBackup.CloudStores;

/// <summary>One range on its way: an answer that breaks off is continued where it ended. Not safe for concurrent use.</summary>
internal sealed class RangeReading(ICloudRequests requests, string name, long offset, Memory<byte> destination)
{
    private int _filled;
    private long _objectLength = long.MaxValue;
    private string? _version;
    private ObjectMark? _mark;

    /// <summary>One request for what is missing; returns how many bytes the range has.</summary>
    public async Task<int> ContinueAsync(CancellationToken cancellationToken)
    {
        if (Missing == 0)
        {
            return _filled;
        }
        CloudBody body;
        try
        {
            body = await requests.GetAsync(name, offset + _filled, Missing, _version, cancellationToken);
        }
        catch (CloudRequestException changed) when (changed.Kind == FailureKind.ConditionFailed)
        {
            // Deleted and stored again meanwhile: two versions do not make one range.
            Reset();
            throw new CloudRequestException(FailureKind.Passing, "the object was replaced while it was read", changed);
        }
        using (body)
        {
            (_version, _objectLength, _mark) = (body.Version, body.ObjectLength, body.Mark);
            if (body.Length != Missing)
            {
                throw new CloudRequestException(FailureKind.Passing, $"{Missing} bytes were asked for and {body.Length} announced");
            }
            await FillAsync(body.Stream, cancellationToken);
        }
        return Missing == 0 ? _filled : throw new CloudRequestException(FailureKind.Passing, $"the answer ended {Missing} bytes early");
    }

    /// <summary>Whether the bytes are the ones that were stored, as far as can be told: a whole object has a hash.</summary>
    public bool IsSound() =>
        offset > 0 || _filled != _objectLength || _mark is null || Convert.ToHexStringLower(SHA256.HashData(destination.Span[.._filled])) == _mark.Sha256;

    /// <summary>Nothing was read.</summary>
    public void Reset() => (_filled, _objectLength, _version, _mark) = (0, long.MaxValue, null, null);

    // As far as the object's end is known.
    private int Missing => (int)Math.Min(destination.Length, Math.Max(0, _objectLength - offset)) - _filled;

    private async Task FillAsync(Stream stream, CancellationToken cancellationToken)
    {
        try
        {
            while (Missing > 0)
            {
                var count = await stream.ReadAsync(destination.Slice(_filled, Missing), cancellationToken);
                if (count == 0)
                {
                    return;
                }
                _filled += count;
            }
        }
        catch (Exception broken) when (broken is not OperationCanceledException)
        {
            throw requests.Translate(broken);
        }
    }
}
