using System.Text;
using CsCheck;
using VirtBackup.Core;

namespace VirtBackup.Identity.Tests;

public sealed class SettingsTests
{
    private static readonly string[] Fragments = ["", "null", "[]", "{}", "0", "-1", "\"\"", "\"x\"", "[null]", "\"::1\"", ",", "\"0.0.0.0\"", "\\ud800", "1e99"];

    [Theory]
    [InlineData("""["0.0.0.0:7443",null]""", """["backup"]""", "listen")]
    [InlineData("""["0.0.0.0:7443"]""", """["backup",null]""", "names")]
    [InlineData("""["0.0.0.0:7443"]""", """[""]""", "names")]
    public void Lists_with_nothing_in_a_place_are_refused(string listen, string names, string named)
    {
        var json = $$"""{"listen":{{listen}},"names":{{names}},"repository_path":"/srv/r","repository_id":"{{new string('a', 32)}}"}""";
        var fault = Assert.Throws<FaultException>(() => ControllerSettings.Parse(Encoding.UTF8.GetBytes(json), "/etc/c.json"));
        Assert.Contains($"'{named}'", fault.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void Damaged_settings_of_a_controller_fault_with_their_path()
    {
        var settings = new ControllerSettings { Listen = ["0.0.0.0:7443"], Names = ["backup", "10.0.0.1"], RepositoryPath = "/srv/r", RepositoryId = new string('a', 32), Advertise = "a:1" };
        var text = Encoding.UTF8.GetString(settings.ToJson());
        Gen.Select(Gen.Int[0, text.Length], Gen.Int[0, 30], Gen.Int[0, Fragments.Length - 1]).Array[1, 2].Sample(edits =>
        {
            var mutant = text;
            foreach (var (at, cut, fragment) in edits)
            {
                var start = Math.Min(at, mutant.Length);
                mutant = mutant[..start] + Fragments[fragment] + mutant[Math.Min(mutant.Length, start + cut)..];
            }
            try
            {
                var read = ControllerSettings.Parse(Encoding.UTF8.GetBytes(mutant), "/etc/c.json");
                // What passes can be started with.
                Assert.NotEmpty(read.Endpoints);
                Assert.Equal(read.Names.Count, read.DnsNames.Count + read.Addresses.Count);
                Assert.NotEmpty(read.DialAddress);
                _ = Id16.Parse(read.RepositoryId);
            }
            catch (FaultException fault)
            {
                Assert.True(fault.Message.Contains("/etc/c.json", StringComparison.Ordinal) || fault.Reason == FaultReason.InvalidArgument, fault.Message);
            }
        }, iter: 3000);
    }
}
