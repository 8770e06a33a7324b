using System.Xml;
using System.Xml.Linq;
using VirtBackup.Core;

namespace VirtBackup.Hypervisors.Libvirt;

/// <summary>Reads XML that somebody else wrote: no document types, no entities of its own, limited in length, depth and number of nodes.</summary>
internal static class BoundedXml
{
    private const int CharactersMax = 4 << 20;
    private const int DepthMax = 64;
    private const int NodesMax = 100_000;

    /// <exception cref="FaultException"><see cref="FaultReason.Malformed"/>.</exception>
    public static XElement Parse(string text, string root)
    {
        var settings = new XmlReaderSettings
        {
            DtdProcessing = DtdProcessing.Prohibit, XmlResolver = null, MaxCharactersInDocument = CharactersMax, MaxCharactersFromEntities = 1024,
        };
        try
        {
            using (var counting = XmlReader.Create(new StringReader(text), settings))
            {
                for (var nodes = 0; counting.Read(); nodes++)
                {
                    if (counting.Depth > DepthMax || nodes > NodesMax)
                    {
                        throw FaultException.Malformed($"The XML document <{root}> is nested deeper than {DepthMax} or has more than {NodesMax} nodes.");
                    }
                }
            }
            using var reader = XmlReader.Create(new StringReader(text), settings);
            var document = XDocument.Load(reader, LoadOptions.PreserveWhitespace);
            return document.Root is { } element && element.Name == root
                ? element : throw FaultException.Malformed($"The XML document is <{document.Root?.Name}>, not <{root}>.");
        }
        catch (XmlException failure)
        {
            throw new FaultException(FaultReason.Malformed, $"The XML document <{root}> cannot be read: {failure.Message}", failure);
        }
    }

    public static string? Text(this XElement element, string attribute) => element.Attribute(attribute)?.Value;

    public static string? Text(this XElement? element, string child, string attribute) => element?.Element(child)?.Attribute(attribute)?.Value;
}
