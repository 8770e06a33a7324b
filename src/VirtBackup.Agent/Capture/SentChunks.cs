using VirtBackup.Core;

namespace VirtBackup.Agent.Capture;

/// <summary>
/// Chunks that this run has sent or is sending, so that equal blocks of one disk travel once even before the controller
/// can answer for them. Bounded: beyond it the controller's probe still finds what is durable. Safe for concurrent use.
/// </summary>
internal sealed class SentChunks
{
    private const int CountMax = 1 << 18;
    private readonly HashSet<Id32> _ids = [];

    /// <summary>False: already sent by this run.</summary>
    public bool TryAdd(Id32 id)
    {
        lock (_ids)
        {
            if (_ids.Count >= CountMax && !_ids.Contains(id))
            {
                return true;
            }
            return _ids.Add(id);
        }
    }
}
