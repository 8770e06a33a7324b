using VirtBackup.Core;
using VirtBackup.Testing.Proofs;

namespace VirtBackup.Proofs.Fuzz;

/// <summary>
/// One parser under fire. Inputs that are answered in a way not seen before join the pool from which others are made, so
/// that the search gets behind each rule. One caller at a time.
/// </summary>
internal sealed class FuzzRun
{
    private const int PoolMax = 200;
    private const int WordsMax = 6;
    private const long AllocationMax = 16L << 20;

    private static readonly TimeSpan TimeMax = TimeSpan.FromSeconds(10);

    private readonly Target _target;
    private readonly List<byte[]> _pool;
    private readonly HashSet<string> _answers = new(StringComparer.Ordinal);

    public FuzzRun(Target target, string corpus)
    {
        _target = target;
        var folder = Path.Combine(corpus, target.Name);
        _pool = Directory.Exists(folder) ? [.. Directory.EnumerateFiles(folder).Order(StringComparer.Ordinal).Select(File.ReadAllBytes)] : [];
        if (_pool.Count == 0)
        {
            throw new RefutedException($"the corpus has nothing for '{target.Name}'");
        }
        foreach (var kept in _pool.ToList())
        {
            _ = Try(kept);
            Accepted += LastWasAccepted ? 1 : 0;
        }
        if (Accepted == 0)
        {
            throw new RefutedException($"'{target.Name}' accepts nothing of its corpus: the corpus is out of date");
        }
    }

    public string Name => _target.Name;

    public long Inputs { get; private set; }

    public long Accepted { get; private set; }

    public int Answers => _answers.Count;

    private bool LastWasAccepted { get; set; }

    /// <summary>Tries so many inputs. Returns those that were answered in a new way.</summary>
    /// <exception cref="RefutedException">An input was answered in a way that is not allowed; its bytes are in the message.</exception>
    public List<byte[]> Run(Random random, int inputs)
    {
        var found = new List<byte[]>();
        for (var i = 0; i < inputs; i++)
        {
            var input = Mutator.Mutate(_pool[random.Next(_pool.Count)], _pool, random);
            if (random.Next(2) == 0)
            {
                _ = _target.Repair?.Invoke(input);
            }
            Inputs++;
            if (Try(input) && _pool.Count < PoolMax)
            {
                found.Add(input);
                _pool.Add(input);
            }
            Accepted += LastWasAccepted ? 1 : 0;
        }
        return found;
    }

    private bool Try(byte[] input)
    {
        var before = GC.GetAllocatedBytesForCurrentThread();
        // The processor's time: a machine may stand still for reasons of its own.
        var began = Environment.CpuUsage.TotalTime;
        string answer;
        LastWasAccepted = false;
        try
        {
            var again = _target.Parse((byte[])input.Clone());
            LastWasAccepted = true;
            answer = "accepted";
            if (again is not null && !_target.IsFree && !again.AsSpan().SequenceEqual(input))
            {
                throw Refuted(input, "accepts it, and writes it in another way: one thing has two spellings");
            }
        }
        catch (FaultException fault) when (fault.Reason is FaultReason.Malformed or FaultReason.Corrupt or FaultReason.Unsupported or FaultReason.InvalidArgument or FaultReason.NotFound)
        {
            answer = $"{fault.Reason}: {Shape(fault.Message)}";
        }
        catch (Exception exception) when (exception is not RefutedException)
        {
            throw Refuted(input, $"ends with {exception.GetType().Name}: {exception.Message}");
        }
        if (GC.GetAllocatedBytesForCurrentThread() - before is > AllocationMax and var allocated)
        {
            throw Refuted(input, $"takes {allocated >> 20} MiB of memory for {input.Length} bytes");
        }
        if (Environment.CpuUsage.TotalTime - began is var time && time > TimeMax)
        {
            throw Refuted(input, $"takes {time.TotalSeconds:0} s");
        }
        return _answers.Add(answer);
    }

    private RefutedException Refuted(byte[] input, string what) => new($"'{_target.Name}' {what}. Keep it in Corpus/{_target.Name}: {Convert.ToBase64String(input)}");

    /// <summary>A sentence without what differs from input to input: what it quotes, numbers, and what is no word.</summary>
    private static string Shape(string message)
    {
        var words = message.Split('\'').Where(static (_, i) => i % 2 == 0).SelectMany(static part => part.Split(' '));
        return string.Join(' ', words.Where(static word => word.Length > 1 && word.All(char.IsAsciiLetter)).Take(WordsMax));
    }
}
